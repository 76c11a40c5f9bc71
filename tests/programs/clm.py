"""run_clm_no_trainer: accumulation, a bar to a pipe, checkpoints each N steps, resume logic, and a break out of two loops."""

import argparse
import json
import logging
import math
import os
import sys
from itertools import chain
from pathlib import Path

import torch
from sums import digest, seed_everything
from torch.utils.data import DataLoader

logging.basicConfig(format="%(levelname)s - %(name)s - %(message)s", level=logging.INFO, stream=sys.stdout)
logger = logging.getLogger(__name__)


class tqdm:
    def __init__(self, iterable=None, total=None, disable=False):
        self.iterable, self.n, self.total, self.disable = iterable, 0, total, disable

    def __iter__(self):
        for each in self.iterable:
            yield each
            self.update(1)

    def update(self, n):
        self.n += n
        if not self.disable:
            print(f"\r{self.n}/{self.total}", end="")


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--per_device_train_batch_size", type=int, default=2)
    parser.add_argument("--learning_rate", type=float, default=1e-2)
    parser.add_argument("--num_train_epochs", type=int, default=5)
    parser.add_argument("--max_train_steps", type=int, default=13)
    parser.add_argument("--gradient_accumulation_steps", type=int, default=3)
    parser.add_argument("--num_warmup_steps", type=int, default=3)
    parser.add_argument("--checkpointing_steps", type=str, default="5")
    parser.add_argument("--resume_from_checkpoint", type=str, default=None)
    parser.add_argument("--output_dir", type=str, default="output")
    return parser.parse_args()


def group_texts(examples, block_size=8):
    concatenated = {k: list(chain(*examples[k])) for k in examples.keys()}
    total_length = (len(concatenated["input_ids"]) // block_size) * block_size
    result = {
        k: [t[i : i + block_size] for i in range(0, total_length, block_size)]
        for k, t in concatenated.items()
    }
    result["labels"] = result["input_ids"].copy()
    return result


class ListDataset(torch.utils.data.Dataset):
    def __init__(self, columns):
        self.columns = columns

    def __len__(self):
        return len(self.columns["input_ids"])

    def __getitem__(self, i):
        return {k: v[i] for k, v in self.columns.items()}


def default_data_collator(features):
    return {k: torch.tensor([f[k] for f in features]) for k in features[0].keys()}


class Output(dict):
    __getattr__ = dict.__getitem__


class Model(torch.nn.Module):
    def __init__(self, vocab=17, dim=12):
        super().__init__()
        self.wte = torch.nn.Embedding(vocab, dim)
        self.rnn = torch.nn.GRU(dim, dim, batch_first=True)
        self.LayerNorm = torch.nn.LayerNorm(dim)
        self.dropout = torch.nn.Dropout(0.1)
        self.lm_head = torch.nn.Linear(dim, vocab, bias=False)

    def forward(self, input_ids, labels=None, attention_mask=None):
        logits = self.lm_head(self.dropout(self.LayerNorm(self.rnn(self.wte(input_ids))[0])))
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return Output(loss=loss, logits=logits)


def get_linear_schedule_with_warmup(optimizer, warmup, total):
    def lr_lambda(current_step):
        if current_step < warmup:
            return float(current_step) / float(max(1, warmup))
        return max(0.0, float(total - current_step) / float(max(1, total - warmup)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, lr_lambda)


def main():
    args = parse_args()
    seed_everything(7)
    texts = [[(i * 7 + j * j) % 17 for j in range(3 + i % 6)] for i in range(50)]
    lm_datasets = {
        k: ListDataset(group_texts({"input_ids": t, "attention_mask": [[1] * len(x) for x in t]}))
        for k, t in (("train", texts[:40]), ("validation", texts[40:]))
    }
    train_dataset, eval_dataset = lm_datasets["train"], lm_datasets["validation"]
    train_dataloader = DataLoader(
        train_dataset,
        shuffle=True,
        collate_fn=default_data_collator,
        batch_size=args.per_device_train_batch_size,
    )
    eval_dataloader = DataLoader(eval_dataset, collate_fn=default_data_collator, batch_size=2)
    model = Model()
    no_decay = ["bias", "LayerNorm.weight"]
    grouped = [
        {
            "params": [p for n, p in model.named_parameters() if not any(nd in n for nd in no_decay)],
            "weight_decay": 0.1,
        },
        {
            "params": [p for n, p in model.named_parameters() if any(nd in n for nd in no_decay)],
            "weight_decay": 0.0,
        },
    ]
    optimizer = torch.optim.AdamW(grouped, lr=args.learning_rate)
    overrode_max_train_steps = False
    num_update_steps_per_epoch = math.ceil(len(train_dataloader) / args.gradient_accumulation_steps)
    if args.max_train_steps is None:
        args.max_train_steps = args.num_train_epochs * num_update_steps_per_epoch
        overrode_max_train_steps = True
    lr_scheduler = get_linear_schedule_with_warmup(optimizer, args.num_warmup_steps, args.max_train_steps)
    args.num_train_epochs = math.ceil(args.max_train_steps / num_update_steps_per_epoch)
    checkpointing_steps = args.checkpointing_steps
    if checkpointing_steps is not None and checkpointing_steps.isdigit():
        checkpointing_steps = int(checkpointing_steps)
    logger.info("***** Running training *****")
    logger.info(f"  Num examples = {len(train_dataset)}, overrode {overrode_max_train_steps}")
    progress_bar = tqdm(total=args.max_train_steps)
    completed_steps = 0
    starting_epoch = 0
    if args.resume_from_checkpoint:
        dirs = [f.name for f in os.scandir(os.getcwd()) if f.is_dir()]
        dirs.sort(key=os.path.getctime)
        starting_epoch = int(Path(dirs[-1]).stem.replace("epoch_", "")) + 1
    progress_bar.update(completed_steps)

    for epoch in range(starting_epoch, args.num_train_epochs):
        model.train()
        total_loss = 0
        active_dataloader = train_dataloader
        for step, batch in enumerate(active_dataloader):
            outputs = model(**batch)
            loss = outputs.loss
            total_loss += loss.detach().float()
            (loss / args.gradient_accumulation_steps).backward()
            sync = (step + 1) % args.gradient_accumulation_steps == 0 or step == len(train_dataloader) - 1
            if sync:
                optimizer.step()
                lr_scheduler.step()
                optimizer.zero_grad()
                progress_bar.update(1)
                completed_steps += 1
            if isinstance(checkpointing_steps, int):
                if completed_steps % checkpointing_steps == 0 and sync:
                    output_dir = f"step_{completed_steps}"
                    if args.output_dir is not None:
                        output_dir = os.path.join(args.output_dir, output_dir)
                    os.makedirs(output_dir)
                    torch.save(
                        [model.state_dict(), optimizer.state_dict(), lr_scheduler.state_dict()],
                        os.path.join(output_dir, "state.pt"),
                    )
            if completed_steps >= args.max_train_steps:
                break

        model.eval()
        losses = []
        for step, batch in enumerate(eval_dataloader):
            with torch.no_grad():
                outputs = model(**batch)
            loss = outputs.loss
            losses.append(loss.repeat(2))
        losses = torch.cat(losses)
        try:
            eval_loss = torch.mean(losses)
            perplexity = math.exp(eval_loss)
        except OverflowError:
            perplexity = float("inf")
        logger.info(
            f"epoch {epoch}: perplexity: {perplexity} eval_loss: {eval_loss} train {total_loss.item() / len(train_dataloader)}"
        )

    if args.output_dir is not None:
        with open(os.path.join(args.output_dir, "all_results.json"), "w") as f:
            json.dump({"perplexity": perplexity, "steps": completed_steps}, f)
    print("final", digest(model, optimizer, lr_scheduler.state_dict()["last_epoch"], completed_steps))


if __name__ == "__main__":
    main()
