"""Train a small GPT for a fixed budget and leave its weights for the evaluator.

This is the one file that the lab's agents edit. It reads top to bottom: the knobs, the model, the optimizers,
the schedule, the loop, and at the end the one function that the evaluator's scorer calls, `load_model`.

The budget (CPU seconds, wall seconds or tokens), the data and the context length belong to `prepare.py`; the score
belongs to `evaluate.py`, which loads `$AUTOLAB_ARTIFACT/model.pt` in another process and works the score out from the
model's logits. Whatever this file prints is for people: nobody reads a score from it.

    python train.py                       # by hand: data and artifact go to ./.autolab/
    python evaluate.py                    # … and this prints the score
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

import prepare

# -----------------------------------------------------------------------------------------------------------
# 1. Knobs. DEPTH is the dial: the width follows from it, and so does the cost of a step.

DEPTH = 2  # transformer blocks; range: 1 .. 16
ASPECT = 32  # width of the residual stream = DEPTH * ASPECT; one of: 16, 32, 48, 64
HEAD_DIM = 32  # width of one attention head, divides the width; one of: 16, 32
MLP_RATIO = 4  # hidden width of the MLP / width; range: 1 .. 8
ACTIVATION = "relu2"  # one of: "relu2", "gelu", "silu"
QK_NORM = True  # RMS-normalise queries and keys
ROPE_BASE = 10000.0  # longest rotary wavelength, in tokens / 2 pi
SOFTCAP = 15.0  # logits are squashed smoothly into +-SOFTCAP; 0 turns it off

BATCH = 4  # windows per step; range: 1 .. 64
MATRIX_LR = 0.02  # Muon: every matrix inside the blocks
EMBED_LR = 0.01  # AdamW: embedding tables
HEAD_LR = 0.003  # AdamW: output head
SCALAR_LR = 0.01  # AdamW: gains, gates and biases, if a recipe has any
MUON_MOMENTUM = 0.95  # Nesterov momentum of Muon
MUON_STEPS = 5  # Newton-Schulz iterations; range: 1 .. 10
ADAM_BETA1 = 0.8  # AdamW: decay of the mean gradient
ADAM_BETA2 = 0.95  # AdamW: decay of the mean squared gradient
WEIGHT_DECAY = 0.0  # decoupled, on all matrices
GRAD_CLIP = 0.0  # largest norm of the gradient; 0 turns it off

WARMUP = 0.0  # share of the budget over which learning rates rise from zero
WARMDOWN = 0.5  # share of the budget over which they fall to FINAL_LR
FINAL_LR = 0.0  # where they end, as a share of their peak

DTYPE = "float32"  # one of: "float32", "bfloat16"; what matrix products are computed in
COMPILE = False  # fixed: torch.compile, worth its start-up on a GPU only
SAVE_DTYPE = "float16"  # one of: "float16", "bfloat16"; the artifact has a byte cap
LOG_EVERY = 100  # fixed: steps between two progress lines

# What differs on a GPU (AUTOLAB_PROFILE=gpu): a larger model on longer windows, in bfloat16, compiled.
PROFILES: dict[str, dict[str, Any]] = {
    "gpu": {"DEPTH": 12, "ASPECT": 64, "HEAD_DIM": 128, "BATCH": 64, "DTYPE": "bfloat16", "COMPILE": True},
}


def use_profile(profile: str) -> None:
    """Let the overrides of a profile replace the constants above. Unknown profiles change nothing."""
    globals().update(PROFILES.get(profile, {}))


# -----------------------------------------------------------------------------------------------------------
# 2. Model. Pre-norm transformer, rotary positions, no biases, untied head.


def norm(x: Tensor) -> Tensor:
    """Scale each vector to unit root mean square; no gain, the next matrix has one."""
    return F.rms_norm(x, (x.size(-1),))


def activate(x: Tensor) -> Tensor:
    """The MLP's nonlinearity."""
    if ACTIVATION == "relu2":
        return F.relu(x).square()
    return F.gelu(x) if ACTIVATION == "gelu" else F.silu(x)


def rotary_table(length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every angle: two tensors [length, HEAD_DIM / 2]."""
    frequency = ROPE_BASE ** -(torch.arange(0, HEAD_DIM, 2, device=device) / HEAD_DIM)
    angle = torch.outer(torch.arange(length, device=device), frequency)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Turn the two halves of each head's vector by its position's angles. x: [B, heads, T, HEAD_DIM]."""
    cos, sin = (table.to(x.dtype) for table in rotary)
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos + right * sin, right * cos - left * sin), dim=-1)


class Attention(nn.Module):
    """Causal self-attention. x: [B, T, width] -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        split = (x.size(0), x.size(1), -1, HEAD_DIM)
        layers = (self.query, self.key, self.value)
        query, key, value = (layer(x).view(split).transpose(1, 2) for layer in layers)
        if QK_NORM:
            query, key = norm(query), norm(key)
        query, key = rotate(query, rotary), rotate(key, rotary)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(x.shape))


class MLP(nn.Module):
    """Two layers, applied to each position alone. x: [B, T, width] -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, MLP_RATIO * width, bias=False)
        self.out = nn.Linear(MLP_RATIO * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(activate(self.up(x)))


class Block(nn.Module):
    """Attention, then MLP, each added to the residual stream."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = Attention(width)
        self.mlp = MLP(width)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.attention(norm(x), rotary)
        return x + self.mlp(norm(x))


class GPT(nn.Module):
    """tokens [B, T] -> logits [B, T, vocab], float32; the logits at t see tokens 0..t only."""

    def __init__(self, vocab: int) -> None:
        super().__init__()
        width = DEPTH * ASPECT
        self.embed = nn.Embedding(vocab, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(DEPTH))
        self.head = nn.Linear(width, vocab, bias=False)
        self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        """Blocks begin as the identity (their last matrices are zero), the head near a uniform guess."""
        for name, weight in self.named_parameters():
            if name.endswith("out.weight"):
                weight.zero_()
            elif name.startswith("blocks"):
                weight.uniform_(-1, 1).mul_(math.sqrt(3 / weight.size(1)))
        self.embed.weight.normal_()
        self.head.weight.normal_(std=0.001)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        x = norm(x)
        rotary = rotary_table(tokens.size(1), tokens.device)
        for block in self.blocks:
            x = block(x, rotary)
        x = norm(x)
        logits = self.head(x).float()
        if SOFTCAP:
            logits = SOFTCAP * torch.tanh(logits / SOFTCAP)
        return logits


# -----------------------------------------------------------------------------------------------------------
# 3. Optimizers. Muon for the matrices inside the blocks, AdamW for everything else.


def orthogonalize(update: Tensor) -> Tensor:
    """Replace each matrix of a stack [n, rows <= columns] by (nearly) the closest one with orthonormal rows.

    Newton-Schulz, quintic; coefficients of Keller Jordan's Muon, which trade exactness for a steep start.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = update / (update.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(MUON_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class AdamW:
    """Adam with decoupled weight decay, for one group of parameters. (torch.optim takes 1.4 s just to import.)"""

    def __init__(self, parameters: list[nn.Parameter], lr: float) -> None:
        self.parameters, self.lr, self.steps = parameters, lr, 0
        self.mean = [torch.zeros_like(weight) for weight in parameters]
        self.square = [torch.zeros_like(weight) for weight in parameters]

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """Apply the gradients at `scale` times the peak learning rate."""
        self.steps += 1
        gradients = [weight.grad for weight in self.parameters]
        torch._foreach_lerp_(self.mean, gradients, 1 - ADAM_BETA1)
        torch._foreach_mul_(self.square, ADAM_BETA2)
        torch._foreach_addcmul_(self.square, gradients, gradients, 1 - ADAM_BETA2)
        spread = torch._foreach_sqrt(self.square)
        torch._foreach_div_(spread, math.sqrt(1 - ADAM_BETA2**self.steps))
        torch._foreach_add_(spread, 1e-10)
        rate = self.lr * scale
        if WEIGHT_DECAY:
            torch._foreach_mul_(self.parameters, 1 - rate * WEIGHT_DECAY)
        torch._foreach_addcdiv_(self.parameters, self.mean, spread, -rate / (1 - ADAM_BETA1**self.steps))


class Muon:
    """Nesterov momentum whose update is orthogonalised, for matrices of one shape, done in one batch."""

    def __init__(self, matrices: list[nn.Parameter], lr: float) -> None:
        self.matrices, self.lr = matrices, lr
        self.momentum = torch.stack([torch.zeros_like(matrix) for matrix in matrices])

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """Apply the gradients at `scale` times the peak learning rate."""
        gradient = torch.stack([matrix.grad for matrix in self.matrices])
        self.momentum.lerp_(gradient, 1 - MUON_MOMENTUM)
        update = gradient.lerp(self.momentum, MUON_MOMENTUM)
        rows, columns = update.shape[-2:]
        update = orthogonalize(update.mT).mT if rows > columns else orthogonalize(update)
        rate = self.lr * scale
        if WEIGHT_DECAY:
            torch._foreach_mul_(self.matrices, 1 - rate * WEIGHT_DECAY)
        fan = math.sqrt(max(1, rows / columns))  # a tall matrix: same RMS change of its output
        torch._foreach_add_(self.matrices, list(update.unbind()), alpha=-rate * fan)


def make_optimizers(model: nn.Module) -> list[AdamW | Muon]:
    """Sort parameters by what they are: scalars, embedding tables, the head, and matrices, by shape, for Muon."""
    groups: dict[Any, list[nn.Parameter]] = defaultdict(list)
    for name, weight in model.named_parameters():
        kind = "scalar" if weight.ndim < 2 else "embed" if "embed" in name else weight.shape
        groups["head" if name.startswith("head") else kind].append(weight)
    rates = {"scalar": SCALAR_LR, "embed": EMBED_LR, "head": HEAD_LR}
    return [
        AdamW(group, rates[kind]) if kind in rates else Muon(group, MATRIX_LR)
        for kind, group in groups.items()
    ]


# -----------------------------------------------------------------------------------------------------------
# 4. Schedule, as a function of the share of the budget that is spent.


def lr_scale(progress: float) -> float:
    """Multiplier of every peak learning rate at `progress` in [0, 1]."""
    if progress < WARMUP:
        return (progress + 0.01) / (WARMUP + 0.01)
    if progress > 1 - WARMDOWN:
        return FINAL_LR + (1 - FINAL_LR) * (1 - progress) / WARMDOWN
    return 1.0


# -----------------------------------------------------------------------------------------------------------
# 5. Training.


def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats per token."""
    return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.reshape(-1))


def add_to_curve(progress: float, losses: Sequence[Tensor]) -> None:
    """Tell the lab how training goes, if it asks: it may stop a run that is far behind."""
    if path := os.environ.get("AUTOLAB_CURVE"):
        with open(path, "a") as file:
            file.write(f"{progress:.4f} {torch.stack(list(losses)).mean().item():.5f}\n")


def train(model: nn.Module, batches: prepare.Batches, clock: prepare.Clock, device: str) -> int:
    """Run until the budget is spent, or until the loss is no longer a number. Returns the number of steps."""
    optimizers = make_optimizers(model)
    forward = torch.compile(model, dynamic=False) if COMPILE else model
    autocast = torch.autocast(device, dtype=torch.bfloat16, enabled=DTYPE == "bfloat16")
    step = 0
    losses: list[Tensor] = []  # since the last point of the curve
    next_point = 0.05
    while not clock.done():
        scale = lr_scale(clock.progress())
        inputs, targets = batches.next()
        with autocast:
            loss = loss_of(forward(inputs), targets)
        loss.backward()
        if GRAD_CLIP:
            nn.utils.clip_grad_norm_(model.parameters(), GRAD_CLIP)
        for optimizer in optimizers:
            optimizer.step(scale)
        model.zero_grad(set_to_none=True)
        clock.spend(inputs.numel())

        losses.append(loss.detach())
        if clock.progress() >= next_point:
            add_to_curve(clock.progress(), losses)
            losses, next_point = [], clock.progress() + 0.05
        if step % LOG_EVERY == 0:
            nats = loss.item()
            print(f"step {step:5d}  {clock.progress():6.1%}  loss {nats:.4f}  lr x{scale:.2f}", flush=True)
            if not math.isfinite(nats):
                break  # the evaluator will find the same and label it
        step += 1
    return step


def save(model: nn.Module, vocab: int) -> Path:
    """Write the artifact: one plain dict of strings, integers and tensors. Returns its path."""
    dtype = getattr(torch, SAVE_DTYPE)
    weights = {name: weight.detach().cpu().to(dtype) for name, weight in model.state_dict().items()}
    path = prepare.artifact_dir() / "model.pt"
    torch.save({"profile": prepare.PROFILE, "vocab": vocab, "weights": weights}, path)
    return path


def load_model(state: dict[str, Any], device: str) -> Callable[[Tensor], Tensor]:
    """What the scorer calls: the dict that `save` wrote -> a function from tokens [B, T] to logits [B, T, vocab]."""
    use_profile(state["profile"])
    model = GPT(state["vocab"])
    model.load_state_dict(state["weights"])
    return model.to(device).eval()


def main() -> None:
    use_profile(prepare.PROFILE)
    torch.manual_seed(prepare.seed())
    torch.set_float32_matmul_precision("high")
    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    clock = prepare.Clock()
    batches = prepare.Batches(BATCH, device)
    model = GPT(batches.vocab).to(device)
    parameters = sum(weight.numel() for weight in model.parameters())
    print(f"{parameters:,} parameters, {BATCH} x {prepare.CONTEXT} tokens a step, {device}, budget {clock}")
    steps = train(model, batches, clock, device)
    path = save(model, batches.vocab)
    clock.write()
    print(f"{steps} steps, {clock.tokens:,} tokens, {path.stat().st_size:,} bytes in {path}", flush=True)


if __name__ == "__main__":
    main()
