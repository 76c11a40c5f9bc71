"""Workers that are spawned, not forked.

Refused: DataLoader workers that are not started by fork can't be followed (use num_workers=0 or fork)
"""
import torch


class Squares(torch.utils.data.Dataset):
    def __len__(self):
        return 24

    def __getitem__(self, i):
        return torch.tensor([float(i)])


if __name__ == "__main__":
    torch.manual_seed(0)
    net = torch.nn.Linear(1, 1)
    opt = torch.optim.SGD(net.parameters(), lr=1e-3)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(24, 1)), batch_size=4, num_workers=1, multiprocessing_context="spawn")
    for step, (x,) in enumerate(loader):
        loss = net(x).pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(step, loss.item())
