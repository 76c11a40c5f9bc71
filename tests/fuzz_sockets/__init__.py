"""Peers that mean ill, by mistake or otherwise: what a job's ckptd, the daemon and an agent take of them."""
