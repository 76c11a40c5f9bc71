"""Rehearsals: a notice is played to a running job, and what follows is measured against the time there would be."""
