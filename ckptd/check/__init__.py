"""What ``ckptd check`` finds out about a program without running it.

It asks the agent's own rewriting (ckptd_agent.source), so that what it says is what the engine will do.
"""
