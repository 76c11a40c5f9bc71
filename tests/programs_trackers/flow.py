"""MLflow with its files in a folder: parameters, metrics at every step, one that begins late, a tag."""

import mlflow
import torch

torch.manual_seed(1)
mlflow.set_tracking_uri("file:./mlruns")
mlflow.set_experiment("small")
model = torch.nn.Linear(600, 400)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

with mlflow.start_run(run_name="first"):
    mlflow.log_param("lr", 0.01)
    for step in range(1, 61):
        loss = (model(torch.randn(96, 600)) - 1).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mlflow.log_metric("loss", loss.item(), step=step)
        if step % 6 == 0:
            mlflow.log_metric(f"part/{step // 18}", step * 2.0, step=step)
        print(f"step {step} {loss.item():.6f}")
    mlflow.set_tag("outcome", "done")
print("end", model.weight.sum().item())
