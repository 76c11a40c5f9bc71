"""What needs torch, but no training: started by ``ckptd export`` and ``ckptd diff`` in a process of its own."""
