# SPDX-License-Identifier: Apache-2.0
# A snapshot, as policylab sends it, to a script for nft. One chain for each tier of each endpoint and direction, which
# the endpoint's own asks one after another (nft lets at most 16 lead on to each other): to allow is to return with a bit
# of the packet's mark, to pass is to return without, and what nobody decides is dropped or left to the next.

def quoted: "\"" + . + "\"";
def list: "{ " + join(", ") + " }";
def is6: contains(":");
def of_family($f): map(select(is6 == ($f == 6)));
def range: if .first == .last then "\(.first)" else "\(.first)-\(.last)" end;
def ip($f): if $f == 4 then "ip" else "ip6" end;

# A set has one kernel set for each family; numbers stand for the ids, which are too long for nft.
def set_name($sets; $f): "s\($sets[.])f\($f)";

def elements($f):
  if .kind == "net" then .nets | of_family($f)
  else .ports | map(select((.address | is6) == ($f == 6)) | "\(.address) . \(.protocol) . \(.port)") end;

def set($sets; $f):
  (if $f == 4 then "ipv4_addr" else "ipv6_addr" end) as $address
  | (if .kind == "net" then "type \($address); flags interval; auto-merge;" else "type \($address) . inet_proto . inet_service;" end) as $type
  | elements($f) as $elements
  | "  set \(.set_id | set_name($sets; $f)) { \($type)\(if $elements == [] then "" else " elements = \($elements | list);" end) }";

# What one side of a rule asks for; each alternative is a rule of its own.
def side($way; $sets; $f):
  (ip($f) + " " + (if $way == "s" then "saddr" else "daddr" end)) as $address
  | "th \(if $way == "s" then "sport" else "dport" end)" as $port
  | "\($address) . meta l4proto . \($port)" as $triple
  | [ (if .nets != [] then "\($address) \(.nets | of_family($f) | list)" else empty end),
      (if (.not_nets | of_family($f)) != [] then "\($address) != \(.not_nets | of_family($f) | list)" else empty end),
      (.sets[] | "\($address) @\(set_name($sets; $f))"),
      (.not_sets[] | "\($address) != @\(set_name($sets; $f))"),
      (if .not_ports != [] then "\($port) != \(.not_ports | map(range) | list)" else empty end),
      (.not_port_sets[] | "\($triple) != @\(set_name($sets; $f))")
    ] as $all
  | (if .ports == [] and .port_sets == [] then [[]]
     else (if .ports == [] then [] else [["\($port) \(.ports | map(range) | list)"]] end)
          + (.port_sets | map(["\($triple) @\(set_name($sets; $f))"])) end)
  | map($all + .);

def icmp($f; $not):
  (if $f == 4 then "icmp" else "icmpv6" end) as $name
  | if .code == null then "\($name) type \($not)\(.type)"
    else "\($name) type . \($name) code \(if $not == "" then "" else "!= " end){ \(.type) . \(.code) }" end;

def impossible($f):
  (.source, .destination) | .nets != [] and (.nets | of_family($f)) == [];

def marked: "meta mark & 0x10000 != 0";
def unmark: "    meta mark set meta mark & 0xfffeffff";
def verdict: {Allow: "meta mark set meta mark | 0x10000 return", Deny: "drop", Pass: "return"}[.];

def rule($sets):
  . as $rule
  | select(.action != "Log")
  | (4, 6) as $f
  | select(.ip_version == null or .ip_version == $f)
  | select([impossible($f)] | any | not)
  | [ "meta nfproto ipv\($f)",
      (if .protocol != null then "meta l4proto \(.protocol)" else empty end),
      (if .not_protocol != null then "meta l4proto != \(.not_protocol)" else empty end),
      (.icmp | select(. != null) | icmp($f; "")),
      (.not_icmp | select(. != null) | icmp($f; "!= ")) ] as $first
  | (.source | side("s"; $sets; $f))[] as $from
  | (.destination | side("d"; $sets; $f))[] as $to
  | ($first + $from + $to + ["counter", ($rule.action | verdict)]) | "    " + join(" ");

def chain: "  chain \(.name) {", .rules[], "  }";

# The chains of one endpoint in one direction: its tiers that have policies there, its profiles, and what asks them in turn.
def endpoint($snapshot; $sets; $direction; $number):
  "\($direction[0:2])\($number)" as $base
  | (.tiers | map(select(.[$direction] != []))) as $tiers
  | ({name: "\($base)p",
      rules: (([.profiles[] as $name | ($snapshot.profiles | map(select(.name == $name)))
                | if . == [] then ["    drop"] else [.[0][$direction][] | rule($sets)] end] | add // [])
              + ["    counter drop"])}),
    ($tiers | to_entries[] | .key as $key | .value as $tier
     | {name: "\($base)t\($key)",
        rules: ([$tier[$direction][] as $id | $snapshot.policies[] | select(.policy_id == $id) | .[$direction][] | rule($sets)]
                + [if $tier.pass_by_default then empty else "    counter drop" end])}),
    {name: $base,
     rules: ([unmark] + [$tiers | to_entries[] | "    jump \($base)t\(.key)", "    \(marked) return"] + ["    goto \($base)p"])}
  | chain;

.snapshot as $snapshot
| ($snapshot.ip_sets | to_entries | map({key: .value.set_id, value: .key}) | from_entries) as $sets
| ($snapshot.endpoints | to_entries) as $endpoints
| "table inet \($table) {}",
  "delete table inet \($table)",
  "table inet \($table) {",
  ($snapshot.ip_sets[] | set($sets; 4), set($sets; 6)),
  ($endpoints[] | .key as $number | .value | endpoint($snapshot; $sets; "egress"; $number), endpoint($snapshot; $sets; "ingress"; $number)),
  "  chain forward {",
  "    type filter hook forward priority filter; policy accept;",
  "    ct state established,related accept",
  (if $snapshot.settings.allow_ipip_from_workloads then empty else "    iifname \"cali*\" meta l4proto 4 counter drop" end),
  (if $snapshot.settings.allow_vxlan_from_workloads then empty else "    iifname \"cali*\" udp dport \($snapshot.settings.vxlan_port) counter drop" end),
  ($endpoints[] | "    iifname \(.value.interface | quoted) jump eg\(.key)"),
  ($endpoints[] | "    oifname \(.value.interface | quoted) jump in\(.key)"),
  "    iifname \"cali*\"" + unmark, "    oifname \"cali*\"" + unmark,
  "  }",
  "}"
