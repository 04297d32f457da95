"""The report of a run in words and figures."""

from __future__ import annotations

import json
from typing import Any

from . import words
from .definition import Call, Input, Node, Output, Result


class ReportText(Node):
    id = "CHAI_ReportText"
    name = "CHAI Report to Text"
    about = "The receipt of a video: hit or miss and why, steps, seconds by stage, what was read and written."
    inputs = (Input("report", "STRING", "From the Sampler or Prompt to Video.", wired=True),)
    outputs = (
        Output("STRING", "text", "In plain lines."),
        Output("STRING", "outcome", "hit, miss, full or fast."),
        Output("INT", "steps", "Denoising steps that were done."),
        Output("FLOAT", "seconds", "From prompt to frames, without loading the model."),
        Output("STRING", "entry", "Id of the entry that this run has left in the cache; empty if it left none."),
    )
    is_output = True

    @classmethod
    def run(cls, call: Call, **values: Any) -> Result:
        from ..chai_app.errors import BadRequest
        from ..chai_app.request import GenerationRequest, Report

        try:
            told = json.loads(values["report"])
            request, report = GenerationRequest.from_json(told["request"]), Report.from_json(told["report"])
        except (KeyError, TypeError, ValueError) as error:
            raise BadRequest(
                "This text is no report: connect the output report of Sampler or Prompt to Video."
            ) from error
        reuse = report.reuse
        outcome, entry = ("full", "") if reuse is None else (reuse.outcome, reuse.stored_entry_id or "")
        text = words.report_text(request, report)
        return Result((text, outcome, report.steps, report.making_seconds, entry), text)
