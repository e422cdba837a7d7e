"""Small local replacements of the tokenizers and encoders that diffusers' tests fetch from the hub.

Diffusers' tests build most parts of a pipeline from configurations, but ask the hub for tokenizers and a few tiny encoders.
:func:`offline` answers these requests with objects of the same kind, whose weights and vocabularies are made here.
"""

from __future__ import annotations

import string
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
import transformers

LETTERS = list(string.ascii_lowercase + string.digits)
CHAT = "{% for message in messages %}{{ message['role'] }} {{ message['content'] }} {% endfor %}"


class NotHere(Exception):
    """A part that only the hub has."""


def clip_tokenizer() -> Any:
    words = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=77)


def t5_tokenizer() -> Any:
    pieces = ["<pad>", "</s>", "<unk>", "▁", *string.ascii_lowercase]
    return transformers.T5Tokenizer(
        vocab=[(piece, -float(i)) for i, piece in enumerate(pieces)], extra_ids=0, model_max_length=512
    )


def word_tokenizer() -> Any:
    """Splits into letters; has a chat template and the special tokens of language models."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    special = ["<pad>", "<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|vision_start|>"]
    vocab = {word: i for i, word in enumerate([*special, *string.ascii_letters, *string.digits, " ", ".", ","])}
    plain = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        model_max_length=512, padding_side="right",
    )  # fmt: skip
    made.chat_template = CHAT
    return made


def tokenizer(repository: str) -> Any:
    """A tokenizer of the kind that a repository holds."""
    kinds = (("clip", clip_tokenizer), ("t5", t5_tokenizer))
    return next((make for word, make in kinds if word in repository.lower()), word_tokenizer)()


def t5_config() -> Any:
    return transformers.T5Config(
        vocab_size=1103, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4, decoder_start_token_id=0
    )


def bert(*_: Any, **__: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=1124, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=37
    )
    return transformers.BertModel(config).eval()


def gemma(*_: Any, **__: Any) -> Any:
    torch.manual_seed(0)
    text = {
        "vocab_size": 256, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 2048,
    }  # fmt: skip
    vision = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
        "patch_size": 14,
    }  # fmt: skip
    config = transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    return transformers.Gemma3ForConditionalGeneration(config).eval()


def clap_features(*_: Any, **settings: Any) -> Any:
    return transformers.ClapFeatureExtractor(**settings)


def _config(repository: str, *_: Any, **__: Any) -> Any:
    if "t5" not in repository.lower():
        raise NotHere(repository)
    return t5_config()


def _model(kind: type) -> Any:
    def from_pretrained(repository: str, *_: Any, **__: Any) -> Any:
        torch.manual_seed(0)
        if "t5" in repository.lower():
            config = t5_config()
            if kind is transformers.UMT5EncoderModel:
                names = ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads")
                config = transformers.UMT5Config(**{name: getattr(config, name) for name in names})
            return kind(config).eval()
        raise NotHere(repository)

    return staticmethod(from_pretrained)


def _refused(repository: Any = "", *_: Any, **__: Any) -> Any:
    raise NotHere(str(repository))


@contextmanager
def offline() -> Iterator[None]:
    """Answers ``from_pretrained`` for the length of a block."""
    for name in ("parameterized", "requests_mock"):  # libraries of tests that we do not run
        sys.modules.setdefault(name, _decorators(name))
    answer = staticmethod(lambda repository="", *_, **__: tokenizer(str(repository)))
    kinds = [transformers.PreTrainedTokenizerBase, transformers.AutoTokenizer]
    with _patches() as patch:
        for kind in kinds:
            patch(kind, "from_pretrained", answer)
        patch(transformers.AutoConfig, "from_pretrained", staticmethod(_config))
        for name in ("T5EncoderModel", "UMT5EncoderModel"):
            patch(getattr(transformers, name), "from_pretrained", _model(getattr(transformers, name)))
        patch(transformers.BertModel, "from_pretrained", staticmethod(bert))
        patch(transformers.Gemma3ForConditionalGeneration, "from_pretrained", staticmethod(gemma))
        patch(transformers.ClapFeatureExtractor, "from_pretrained", staticmethod(clap_features))
        patch(transformers.PreTrainedModel, "from_pretrained", staticmethod(_refused))
        patch(transformers.ProcessorMixin, "from_pretrained", staticmethod(_refused))
        patch(transformers.AutoProcessor, "from_pretrained", staticmethod(_refused))
        yield


@contextmanager
def _patches() -> Iterator[Any]:
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda kind, name, value: stack.enter_context(mock.patch.object(kind, name, value))


def _decorators(name: str) -> types.ModuleType:
    """A module whose decorators do nothing."""
    module = types.ModuleType(name)
    plain = lambda *_, **__: lambda function: function  # noqa: E731
    module.parameterized = type("parameterized", (), {"expand": staticmethod(plain)})
    module.parameterized_class = plain
    module.Mocker = object
    return module
