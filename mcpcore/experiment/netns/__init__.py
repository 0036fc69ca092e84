"""Networks of Linux namespaces: one for each node, joined by a switch, cut by iptables."""
