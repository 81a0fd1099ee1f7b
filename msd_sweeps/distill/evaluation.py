"""What a network scores on a part of a data set."""

import torch

from msd_sweeps.distill.data.splits import Split
from msd_sweeps.distill.data.stream import plain_batches
from msd_sweeps.distill.models.network import Network

_BATCH_SIZE = 500
_BATCH_SIZE_ABOVE_64_PIXELS = 125


@torch.no_grad()
def evaluate(
    network: Network,
    split: Split,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    dtype: torch.dtype,
    rank: int = 0,
    world_size: int = 1,
) -> tuple[float, float]:
    """Top-1 accuracy in percent and mean cross-entropy in nats of a network on a whole split, in evaluation mode.

    dtype: float32 weights compute under autocast to it; other weights compute in their own precision. Several workers
    each take a part of the images, and all use the batch norms' statistics of rank 0.
    """
    network.eval()
    if world_size > 1:
        for buffer in network.buffers():
            torch.distributed.broadcast(buffer, 0)
        split = split.select(torch.arange(rank, len(split), world_size))
    device, weights_dtype = split.labels.device, next(network.parameters()).dtype
    has_autocast = weights_dtype == torch.float32 and dtype != torch.float32
    batch_size = _BATCH_SIZE if split.image_shape[-1] <= 64 else _BATCH_SIZE_ABOVE_64_PIXELS
    sums = torch.zeros(3, device=device, dtype=torch.float64)  # right, cross-entropy, count
    for images, labels in plain_batches(split, mean, std, batch_size):
        with torch.autocast(device.type, dtype, enabled=has_autocast):
            logits = network(images.to(weights_dtype)).logits.float()
        loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
        right = (logits.argmax(1) == labels).sum()
        sums += torch.stack([right, loss, torch.full_like(loss, len(labels))])
    if world_size > 1:
        torch.distributed.all_reduce(sums)
    num_right, total_loss, count = sums.tolist()
    return 100 * num_right / count, total_loss / count
