"""A GAN with two optimizers, argparse and a main(), in the style of the well-known DCGAN example."""

import argparse
import time

import torch
import torch.nn as nn
import torch.optim as optim
from sums import digest, seed_everything
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--niter", type=int, default=3)
parser.add_argument("--nz", type=int, default=6)
parser.add_argument("--lr", type=float, default=0.002)
parser.add_argument("--manualSeed", type=int, default=7)


def weights_init(m):
    classname = m.__class__.__name__
    if classname.find("Linear") != -1:
        torch.nn.init.normal_(m.weight, 0.0, 0.2)
    elif classname.find("BatchNorm") != -1:
        torch.nn.init.normal_(m.weight, 1.0, 0.02)
        torch.nn.init.zeros_(m.bias)


class Generator(nn.Module):
    def __init__(self, nz):
        super().__init__()
        self.main = nn.Sequential(
            nn.Linear(nz, 16), nn.BatchNorm1d(16), nn.ReLU(True), nn.Linear(16, 4), nn.Tanh()
        )

    def forward(self, x):
        return self.main(x)


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.Linear(4, 16), nn.LeakyReLU(0.2, inplace=True), nn.Dropout(0.3), nn.Linear(16, 1)
        )

    def forward(self, x):
        return torch.sigmoid(self.main(x)).view(-1)


def main():
    opt = parser.parse_args()
    print(opt)
    seed_everything(opt.manualSeed)
    data = torch.randn(96, 4) * 0.3 + torch.tensor([0.5, -0.5, 0.1, 0.2])
    loader = DataLoader(TensorDataset(data), batch_size=16, shuffle=True)
    netG = Generator(opt.nz)
    netG.apply(weights_init)
    netD = Discriminator()
    netD.apply(weights_init)
    criterion = nn.BCELoss()
    fixed_noise = torch.randn(8, opt.nz)
    real_label, fake_label = 1.0, 0.0
    optimizerD = optim.Adam(netD.parameters(), lr=opt.lr, betas=(0.5, 0.999))
    optimizerG = optim.Adam(netG.parameters(), lr=opt.lr, betas=(0.5, 0.999))
    for epoch in range(opt.niter):
        for i, data in enumerate(loader, 0):
            netD.zero_grad()
            real = data[0]
            label = torch.full((real.size(0),), real_label)
            output = netD(real)
            errD_real = criterion(output, label)
            errD_real.backward()
            D_x = output.mean().item()
            noise = torch.randn(real.size(0), opt.nz)
            fake = netG(noise)
            label.fill_(fake_label)
            output = netD(fake.detach())
            errD_fake = criterion(output, label)
            errD_fake.backward()
            errD = errD_real + errD_fake
            optimizerD.step()
            netG.zero_grad()
            label.fill_(real_label)
            output = netD(fake)
            errG = criterion(output, label)
            errG.backward()
            optimizerG.step()
            time.sleep(0.003)
            print(
                "[%d/%d][%d/%d] Loss_D: %.6f Loss_G: %.6f D(x): %.6f"
                % (epoch, opt.niter, i, len(loader), errD.item(), errG.item(), D_x)
            )
        with torch.no_grad():
            fake = netG(fixed_noise)
        torch.save(netG.state_dict(), "netG_epoch_%d.pth" % epoch)
    print("final", digest(netG, netD, optimizerG, optimizerD, fake))


if __name__ == "__main__":
    main()
