"""The daemon: keeps many jobs of a store running on this host, each under a ckptd of its own."""
