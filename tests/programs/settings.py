"""Settings that change in mid-run: environment, print options, switches of torch and numpy, decimals, loggers, umask"""

import decimal
import logging
import os
import sys
import time

import numpy as np
import torch

torch.manual_seed(3)
logging.basicConfig(stream=sys.stdout, format="%(name)s %(levelname)s %(message)s", level=logging.INFO)
log = logging.getLogger("train")
quiet = logging.getLogger("train.quiet")
os.environ["STAGE"] = "warmup"
os.environ["RUN_NAME"] = "first"
np.set_printoptions(precision=5)
sys.setrecursionlimit(3000)

model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
opt = torch.optim.SGD(model.parameters(), lr=0.05)
tiny = torch.tensor([2e-42, 1.0])


def change(step):
    """What a script does at its milestones."""
    if step == 1:
        os.environ["STAGE"] = "main"
        os.environ["EXTRA"] = "täxt=1"
        decimal.getcontext().prec = 6
        log.setLevel(logging.DEBUG)
        np.seterr(divide="ignore")
    elif step == 2:
        torch.set_printoptions(precision=2, sci_mode=False)
        np.set_printoptions(precision=3, suppress=True, threshold=np.inf)
        quiet.disabled = True
        torch.set_flush_denormal(True)
        os.environ["TZ"] = "Asia/Tokyo"
        time.tzset()
    elif step == 3:
        os.umask(0o077)
        torch.autograd.set_detect_anomaly(True, check_nan=False)
        sys.setrecursionlimit(2345)
        sys.setswitchinterval(0.011)
        del os.environ["STAGE"]
        logging.getLogger("late").setLevel(logging.ERROR)
    elif step == 4:
        os.environ.pop("PATH", None)
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cudnn.allow_tf32 = False
        torch.set_float32_matmul_precision("high")
        decimal.getcontext().rounding = decimal.ROUND_DOWN
        log.propagate = False
    elif step == 5:
        logging.disable(logging.INFO)
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.backends.cudnn.enabled = False
        np.seterr(divide="warn", invalid="ignore")
    elif step == 6:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
        torch.set_flush_denormal(False)
        torch.autograd.set_detect_anomaly(False)
        log.propagate = True
        quiet.disabled = False
        logging.disable(logging.NOTSET)
        os.environ["STAGE"] = "last"
        if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
            torch.backends.cuda.matmul.fp32_precision = (
                "ieee"  # what torch then refuses to tell by its first name
            )


def settings():
    names = ("STAGE", "EXTRA", "RUN_NAME", "TZ")
    context = decimal.getcontext()
    return [
        [os.environ.get(name) for name in names], "PATH" in os.environ, time.localtime(0).tm_hour,
        decimal.Decimal(2) / 3, context.flags[decimal.Inexact], np.array([1e-7, 2 / 3]), np.geterr()["divide"],
        torch.tensor([2 / 3]), (tiny * 1.0).tolist(), torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled(),
        sys.getrecursionlimit(), sys.getswitchinterval(), torch.backends.cuda.flash_sdp_enabled(),
        torch.backends.cudnn.enabled, torch.empty(1).device, [log.level, quiet.disabled, logging.root.manager.disable],
    ]  # fmt: skip


def mode_of(name):
    with open(name, "w") as file:
        file.write("x")
    return oct(os.stat(name).st_mode & 0o777)


for step in range(9):
    x = torch.randn(16, 3, device="cpu", dtype=torch.float32)
    loss = (model(x) - x.sum(1, keepdim=True)).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    change(step)
    log.debug("step %d", step)
    log.info("loss %.6f", loss.item())
    quiet.warning("careful")
    logging.getLogger("late").warning("late")
    print(step, *settings(), mode_of(f"file{step}"))
    for part in range(2):
        print(
            " ",
            part,
            os.environ.get("STAGE"),
            decimal.Decimal(1) / 7,
            [sum(p.sum() for p in model.parameters())],
        )

precision = getattr(torch.backends.cuda.matmul, "fp32_precision", None)
print("end", *settings(), mode_of("end"), precision, torch.get_num_threads())
