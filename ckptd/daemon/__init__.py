"""The supervisor: it starts a job, listens to its agent, saves what it copies, and relaunches it."""
