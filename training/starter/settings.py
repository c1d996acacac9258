"""Every number of the recipe, with its unit."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How the starter model is built. The defaults are those of the weights that ship."""

    # Tokenizer.
    vocabulary: int = 2560
    """Tokens, the 256 bytes and three special tokens included."""
    tokenizer_dialogs: int = 20_000
    tokenizer_seed: int = 11

    # Architecture: Qwen3 with tied embeddings.
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    key_value_heads: int = 2
    head_dim: int = 64
    """A size that vLLM's attention supports on CPUs and GPUs."""
    intermediate: int = 704
    positions: int = 2048
    """Longest context, in tokens."""

    # Training.
    steps: int = 3200
    rows: int = 16
    """Packed rows in a step."""
    row_tokens: int = 256
    """Tokens in a packed row; longer dialogs are left out."""
    learning_rate: float = 2.5e-3
    """Peak; linear warm-up, then a cosine to zero."""
    warmup_steps: int = 100
    weight_decay: float = 0.05
    gradient_norm: float = 1.0
    seed: int = 7
    threads: int = 2
    compile: bool = True
    """Compile the layers; needs a C++ compiler on a CPU, and is worth about half of the time."""
    checkpoint_steps: int = 400
    """Steps between two writes of the weights."""

    # Measurement.
    samples: int = 1000
    """Held-out questions that are asked, one reply each, at temperature 1."""
    sample_tokens: int = 128
    """Longest reply, in tokens."""
    sample_seed: int = 2024
