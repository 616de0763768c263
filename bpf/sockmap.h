/* SPDX-License-Identifier: GPL-2.0-only */
/* What the sockmap programs and the plugin that loads them must agree on. The plugin reads the numbers from here. */
#ifndef POLICYLAB_SOCKMAP_H
#define POLICYLAB_SOCKMAP_H

/* The switch: new sockets are left alone; they join, but nothing is redirected; they join and redirect. */
#define SWITCH_OFF 0
#define SWITCH_JOIN 1
#define SWITCH_REDIRECT 2

/* What is counted: places in the one entry of the map "counts". The first ones are why a message went by TCP. */
#define COUNT_PASSED_SWITCH 0    /* the accelerator is switched off */
#define COUNT_PASSED_STATE 1     /* not an open connection of plain TCP */
#define COUNT_PASSED_PEER 2      /* the other end is not in the map, or not any more */
#define COUNT_PASSED_UNREAD 3    /* bytes given to TCP before have not been read yet */
#define COUNT_PASSED_READER 4    /* somebody is inside recv() who may have seen bytes of TCP */
#define COUNT_PASSED_QUEUE 5     /* the other end's queue is full */
#define COUNT_PASSED_PRESSURE 6  /* TCP, or the cgroup of the other end, is short of memory */
#define COUNT_PASSED_REFUSED 7   /* the kernel did not redirect */
#define COUNT_PASSED_BYTES 8
#define COUNT_REDIRECTED_MESSAGES 9
#define COUNT_REDIRECTED_BYTES 10
#define COUNT_UPGRADES 11        /* a connection went from TCP to being redirected */
#define COUNT_DOWNGRADES 12      /* and back */
#define COUNT_ORDER_VIOLATED 13
#define COUNT_QUEUE_DEEPEST 14   /* bytes; the most that were ever queued at one socket */
#define COUNT_SOCKETS_JOINED 15
#define COUNT_SOCKETS_REFUSED 16 /* the map was full, or the kernel did not take the socket */
#define COUNTS 17

#endif
