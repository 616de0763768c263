#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes a machine of the public box what those of our own are: $1 is the Debian release that has its kernel. The checkout
# is in /policylab already. Vagrant restarts the machine afterwards.
set -e
export DEBIAN_FRONTEND=noninteractive
mirror=http://deb.debian.org/debian
apt-get update
apt-get install --yes --no-install-recommends python3-venv iptables nftables ipset iproute2 ethtool tcpdump jq gcc \
    libc6-dev python3-bpfcc bpftool linux-headers-amd64 busybox-static
if [ "$1" != bookworm ]; then
    echo "deb $mirror $1 main" >/etc/apt/sources.list.d/kernel.list
    # From that release the kernel and nothing else.
    printf 'Package: *\nPin: release n=%s\nPin-Priority: 1\n' "$1" >/etc/apt/preferences.d/kernel
    apt-get update
    apt-get install --yes --no-install-recommends --target-release "$1" linux-image-amd64
    release=$(apt-cache depends --no-recommends "linux-image-amd64/$1" | sed -n 's/.*Depends: linux-image-//p' | head -n 1)
    entry='Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux'
    echo "GRUB_DEFAULT=\"$entry $release\"" >/etc/default/grub.d/kernel.cfg
    update-grub
fi
python3 -m venv /opt/policylab/tools
/opt/policylab/tools/bin/pip install --quiet tox
for command in tox policylab pytest policylab-python; do
    ln -sf /policylab/lab/fabric/vagrant/as-root "/usr/local/bin/$command"
done
cd /policylab
tox run -qq -e integration --notest
