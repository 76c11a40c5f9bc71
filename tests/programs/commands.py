"""Commands: what they answer is used, the folder is cleared by a shell before the loop, each epoch notes its files by another"""

import os
import shlex
import subprocess

import torch
from sums import digest, seed_everything
from torch import nn

host = subprocess.check_output(["uname", "-s"], text=True).strip()
width = int(subprocess.run("echo 3; exit 0", shell=True, capture_output=True, text=True, check=True).stdout)
seed = int(os.popen("echo seed; echo 12").read().split()[1])
os.system("rm -rf out; mkdir -p out")
subprocess.run("echo begin >> side.txt", shell=True)
subprocess.call(["sh", "-c", "date > started.txt; echo kept > out/kept.txt; chmod 600 started.txt"])
os.spawnlp(os.P_WAIT, "sh", "sh", "-c", "echo spawned >> side.txt")
os.waitpid(os.posix_spawnp("sh", ["sh", "-c", "echo posix >> side.txt"], os.environ), 0)
subprocess.run(["echo", "heard once"], preexec_fn=os.getpid)
os.remove("started.txt")  # its text is the time
seed_everything(seed)
model = nn.Linear(width, 1)
opt = torch.optim.Adam(model.parameters(), lr=0.05)
x = torch.randn(48, width)
y = x.sum(1, keepdim=True)
for epoch in range(4):
    for i in torch.randperm(48).split(12):
        loss = (model(x[i]) - y[i]).pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(host, epoch, f"{loss.item():.6f}")
    torch.save(model.state_dict(), f"out/{epoch}.pt")
    os.system(f"echo {shlex.quote(f'epoch {epoch}')} >> side.txt; ls out | wc -l >> side.txt")
    listed = subprocess.run(["ls", "out"], capture_output=True, text=True, check=True).stdout.split()
    print(epoch, listed, subprocess.getoutput("wc -l < side.txt"))
with open("side.txt") as side:
    print(side.read().split("\n"))
print("digest", digest(model, opt))
