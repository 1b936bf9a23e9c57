"""The flows' forms: what each setting means, what it may be, and that a server refuses what it may not be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from prefect import Flow
from prefect.utilities.callables import parameter_schema
from pydantic import BaseModel

from ai.ml.retraining.settings.backtest import BacktestConfig
from ai.ml.retraining.settings.predict import PredictConfig
from ai.ml.retraining.settings.proof import RollbackConfig, ValidateConfig
from ai.ml.retraining.settings.retrain import RetrainConfig
from flows.backtest import backtest
from flows.batch_predict import batch_predict
from flows.retrain import retrain
from flows.rollback import rollback
from flows.validate_bundle import validate_bundle

FORMS: list[tuple[Flow[..., Any], type[BaseModel]]] = [
    (retrain, RetrainConfig),
    (backtest, BacktestConfig),
    (validate_bundle, ValidateConfig),
    (batch_predict, PredictConfig),
    (rollback, RollbackConfig),
]
IDS = [flow.name for flow, _ in FORMS]


def properties(schema: dict[str, Any], name: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Every setting of a definition and of those in it: its path, what the form knows of it, and its section."""
    definition = schema["definitions"][name]
    for key, field in definition["properties"].items():
        reference = field.get("$ref") or next(iter(field.get("allOf", [{}]))).get("$ref")
        if reference is None:
            yield f"{name}.{key}", field, definition
        else:
            yield from properties(schema, str(reference).rpartition("/")[2])


def form(flow: Flow[..., Any]) -> dict[str, Any]:
    """As `prefect deploy` sends it."""
    return parameter_schema(flow.fn).model_dump(mode="json")


@pytest.mark.parametrize(("flow", "model"), FORMS, ids=IDS)
def test_every_setting_is_told_and_has_a_default_or_is_required(flow: Flow[..., Any], model: type[BaseModel]) -> None:
    schema = form(flow)
    assert schema["required"] == ["config"]
    found = list(properties(schema, model.__name__))
    assert len(found) >= 4
    for path, field, definition in found:
        assert len(field.get("description", "")) >= 10, path
        key = path.rpartition(".")[2]
        assert ("default" in field) != (key in definition.get("required", [])), path
        assert definition["additionalProperties"] is False, path


@pytest.mark.parametrize(("flow", "model"), FORMS, ids=IDS)
def test_every_number_has_a_least_value(flow: Flow[..., Any], model: type[BaseModel]) -> None:
    for path, field, _ in properties(form(flow), model.__name__):
        for kind in [field, *field.get("anyOf", [])]:
            if kind.get("type") in ("integer", "number"):
                assert {"minimum", "exclusiveMinimum"} & set(kind) | {"minimum", "exclusiveMinimum"} & set(field), path


@pytest.mark.parametrize(("flow", "model"), FORMS, ids=IDS)
def test_what_a_bare_type_doesnt_tell_has_an_example_that_is_valid(
    flow: Flow[..., Any], model: type[BaseModel]
) -> None:
    for path, field, _ in properties(form(flow), model.__name__):
        kinds = [field, *field.get("anyOf", [])]
        free = any(kind.get("type") in ("string", "object", "array") and "enum" not in kind for kind in kinds)
        if free:
            assert field.get("examples"), path
    check_examples(model)


def check_examples(model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            check_examples(field.annotation)
        for example in field.examples or []:
            validated = model.__pydantic_validator__.validate_assignment(model.model_construct(), name, example)
            assert validated is not None


@pytest.mark.slow
def test_a_server_refuses_a_bad_value_before_anything_starts(prefect_environment: dict[str, str]) -> None:
    from deployed_runs import deploy

    place = deploy(prefect_environment)
    good = {"name": "m", "data": {"source": "t.csv", "target": "y"}}
    bad: list[tuple[dict[str, Any], str]] = [
        ({**good, "training": {"epochs": 0}}, "epochs"),
        ({**good, "training": {"training_mode": "mlp"}}, "training_mode"),
        ({**good, "approval": {"approve": "nobody"}}, "approve"),
        ({**good, "epoch": 3}, "epoch"),
        ({"name": "../m", "data": good["data"]}, "name"),
        ({"name": "m", "data": {"source": "t.csv"}}, "target"),
    ]
    path = f"deployments/{place.deployment}/create_flow_run"
    for config, field in bad:
        answer = place.ask("POST", path, json={"parameters": {"config": config}})
        assert answer.status_code == 409, answer.text
        assert field in answer.text, answer.text
    wanted = {"deployments": {"id": {"any_": [place.deployment]}}}
    assert place.post("flow_runs/filter", **wanted) == []
    assert place.start(good)
