"""Notices that this machine, or this job, is about to go: one small module for each source, behind one interface.

A source tells what it hears and decides nothing; what follows is the supervisor's affair (ckptd.daemon.notices).
"""
