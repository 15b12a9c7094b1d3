"""Numbers that are none: NaN and the infinities, in each datatype that has them and in every encoding."""

from __future__ import annotations

import json
from math import inf, nan
from typing import Final

from tests.conformance.cases import Case, binary_input, case, infer_path, on_every_road, post, post_binary
from tests.conformance.tensors import Input

VALUES: Final = [nan, inf, -inf, -0.0, 0.5, 2.0]


def _flexible(values: list[float]) -> tuple[Input]:
    return (Input("INPUT", "FP32", (1, len(values)), values),)


def _literal(text: str) -> Case:
    """One element of `data`, written so."""
    data = json.dumps([{"name": "INPUT", "datatype": "FP32", "shape": [1, 2], "data": ["HERE", 1.0]}])
    body = f'{{"inputs": {data}}}'.replace('"HERE"', text)
    return case(f"http/nonfinite/data written {text}", post(infer_path("flexible"), body.encode()))


def _answered_in_json(name: str, value: float) -> Case:
    (one,) = _flexible([value, 1.0])
    document = {"inputs": [binary_input(one)]}
    return case(f"http/nonfinite/{name}, answered in JSON", post_binary("flexible", document, one.raw()))


NONFINITE: Final[list[Case]] = [
    *on_every_road("nonfinite/fp32", "flexible", _flexible(VALUES)),
    *on_every_road("nonfinite/fp16", "identity_fp16", (Input("INPUT0", "FP16", (1, 6), VALUES),)),
    *on_every_road("nonfinite/bf16", "identity_bf16", (Input("INPUT0", "BF16", (1, 6), VALUES),)),
    *[_literal(text) for text in ("NaN", "nan", "Infinity", "-Infinity", "Inf", "-NaN", '"NaN"', "1e999", "-1e999")],
    *[_answered_in_json(name, value) for name, value in (("NaN", nan), ("Infinity", inf), ("-Infinity", -inf))],
]
