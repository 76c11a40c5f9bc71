"""What ``ckptd doctor`` looks at before it matters: how fast this machine is, and what stands in the way."""
