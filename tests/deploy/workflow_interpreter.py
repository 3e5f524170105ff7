"""Runs a definition of Cloud Workflows, as far as this project's goes: there is no emulator of it in a package index.

The syntax is that of https://cloud.google.com/workflows/docs/reference/syntax. Whatever lies outside of the part that
is known here is an error, so that a definition cannot pass by not being understood.
"""

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

# https://cloud.google.com/workflows/quotas
MAX_EXPRESSION = 400  # characters
MAX_STEPS = 100_000  # an execution
RESERVED = {"end", "break", "continue"}
_STEP = {"assign", "call", "args", "result", "switch", "for", "try", "retry", "raise", "return", "next", "steps"}


class Raised(Exception):
    """What a `raise` step or a call raised: a string, or a map with a code."""

    def __init__(self, value: Any):
        super().__init__(value if isinstance(value, str) else str(value))
        self.value = value


class _Return(Exception):
    def __init__(self, value: Any):
        self.value = value


class _Next(Exception):
    def __init__(self, step: str):
        self.step = step


class Workflow:
    """A definition, checked when it is read.

    Args:
      text: the YAML.
      functions: dotted name → function, for expressions.
      calls: dotted name → function of the step's `args`, for call steps.
    """

    def __init__(self, text: str, functions: Mapping[str, Callable[..., Any]], calls: Mapping[str, Callable[..., Any]]):
        self.definition = yaml.safe_load(text)
        self.functions = functions
        self.calls = calls
        self._executed = 0
        for workflow in self.definition.values():
            unknown = set(workflow) - {"params", "steps"}
            assert not unknown, f"unknown in a workflow: {unknown}"
            names = [name for name, _ in _all_steps(workflow["steps"])]
            assert len(names) == len(set(names)), f"steps of one name: {names}"
            for name, step in _all_steps(workflow["steps"]):
                self._check(name, step, set(names) | RESERVED)

    def run(self, argument: Any, name: str = "main") -> Any:
        """Executes a workflow; returns what it returns, raises `Raised` where it does."""
        workflow = self.definition[name]
        variables = dict(zip(workflow.get("params", []), [argument], strict=True))
        try:
            self._steps(workflow["steps"], variables)
        except _Return as returned:
            return returned.value
        except _Next as jump:
            assert jump.step == "end", f"no step {jump.step!r} where it was jumped to"
        return None

    def _check(self, name: str, step: Mapping[str, Any], targets: set[str]) -> None:
        assert not set(step) - _STEP, f"{name}: unknown {set(step) - _STEP}"
        for target in [step.get("next"), *(case.get("next") for case in step.get("switch", []))]:
            assert target is None or target in targets, f"{name}: no step {target!r}"
        for call in [step.get("call"), step.get("try", {}).get("call")]:
            assert call is None or call in self.calls or call in self.definition, f"{name}: nothing to call {call!r}"
        for expression in _expressions(step):
            assert len(expression) <= MAX_EXPRESSION, f"{name}: {len(expression)} characters in {expression!r}"
            for node in ast.walk(ast.parse(expression, mode="eval")):
                if isinstance(node, ast.Call):
                    assert ast.unparse(node.func) in self.functions, f"{name}: no function {ast.unparse(node.func)!r}"

    def _steps(self, steps: Sequence[Mapping[str, Any]], variables: dict[str, Any]) -> None:
        names = [name for step in steps for name in step]
        at = 0
        while at < len(steps):
            (step,) = steps[at].values()
            self._executed += 1
            assert self._executed <= MAX_STEPS, "more steps than an execution may have"
            try:
                self._step(step, variables)
                at += 1
                if "next" in step:
                    raise _Next(step["next"])
            except _Next as jump:
                if jump.step not in names:
                    raise
                at = names.index(jump.step)

    def _step(self, step: Mapping[str, Any], variables: dict[str, Any]) -> None:
        if "try" in step:
            self._try(step, variables)
        elif "call" in step:
            args = self.value(step.get("args", {}), variables)
            function = self.calls[step["call"]]
            variables[step.get("result", "_")] = function(args)
        for assignment in step.get("assign", []):
            ((name, value),) = assignment.items()
            target = re.fullmatch(r"(\w+)(?:\[(.+)\])?", name)
            assert target, f"cannot assign to {name!r}"
            if target[2]:
                variables[target[1]][self.value("${" + target[2] + "}", variables)] = self.value(value, variables)
            else:
                variables[name] = self.value(value, variables)
        if "for" in step:
            for value in self.value(step["for"]["in"], variables):
                self._steps(step["for"]["steps"], variables | {step["for"]["value"]: value})
        for case in step.get("switch", []):
            condition = self.value(case["condition"], variables)
            assert isinstance(condition, bool), f"{case['condition']!r} is {condition!r}: expected true or false"
            if condition:
                self._steps(case.get("steps", []), variables)
                if "return" in case:
                    raise _Return(self.value(case["return"], variables))
                if "next" in case:
                    raise _Next(case["next"])
                break
        if "raise" in step:
            raise Raised(self.value(step["raise"], variables))
        if "return" in step:
            raise _Return(self.value(step["return"], variables))

    def _try(self, step: Mapping[str, Any], variables: dict[str, Any]) -> None:
        retry = step["retry"]
        delay = retry["backoff"]["initial_delay"]
        for left in range(retry["max_retries"], -1, -1):
            try:
                return self._step(step["try"], variables)
            except Raised as error:
                if not left or not self.run(error.value, retry["predicate"][2:-1]):
                    raise
            self.calls["sys.sleep"]({"seconds": delay})
            delay = min(delay * retry["backoff"]["multiplier"], retry["backoff"]["max_delay"])
        return None

    def value(self, template: Any, variables: Mapping[str, Any]) -> Any:
        """Returns a part of the definition with each expression in it replaced by its value."""
        if isinstance(template, dict):
            return {name: self.value(part, variables) for name, part in template.items()}
        if isinstance(template, list):
            return [self.value(part, variables) for part in template]
        if isinstance(template, str) and template.startswith("${"):
            return self._evaluate(ast.parse(template[2:-1], mode="eval").body, variables)
        return template

    def _evaluate(self, node: ast.expr, variables: Mapping[str, Any]) -> Any:
        def of(part: ast.expr) -> Any:
            return self._evaluate(part, variables)

        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                return (
                    {"null": None, "true": True, "false": False}[node.id] if node.id in _WORDS else variables[node.id]
                )
            case ast.Attribute():
                return of(node.value)[node.attr]
            case ast.Subscript():
                return of(node.value)[of(node.slice)]
            case ast.Call():
                return self.functions[ast.unparse(node.func)](*map(of, node.args))
            case ast.BinOp(op=ast.Add()):
                left, right = of(node.left), of(node.right)
                # As in Workflows, where a string takes no number without string().
                assert isinstance(left, str) == isinstance(right, str), f"{left!r} + {right!r}"
                return left + right
            case ast.BinOp(op=ast.Mult()):
                return of(node.left) * of(node.right)
            case ast.BoolOp(op=ast.Or()):
                return any(of(part) for part in node.values)
            case ast.UnaryOp(op=ast.Not()):
                return not of(node.operand)
            case ast.Compare(ops=[op]):
                return _COMPARISONS[type(op)](of(node.left), of(node.comparators[0]))
        raise AssertionError(f"not known in an expression: {ast.unparse(node)}")


_WORDS = {"null": None, "true": True, "false": False}
_COMPARISONS: dict[type, Callable[[Any, Any], bool]] = {
    ast.Eq: lambda left, right: left == right,
    ast.NotEq: lambda left, right: left != right,
    ast.Gt: lambda left, right: left > right,
    ast.In: lambda left, right: left in right,
}


def _all_steps(steps: Sequence[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    all_steps = []
    for entry in steps:
        ((name, step),) = entry.items()
        all_steps.append((name, step))
        for nested in [step.get("for", {}), *step.get("switch", [])]:
            all_steps += _all_steps(nested.get("steps", []))
    return all_steps


def _expressions(template: Any) -> list[str]:
    if isinstance(template, dict):
        return [expression for part in template.values() for expression in _expressions(part)]
    if isinstance(template, list):
        return [expression for part in template for expression in _expressions(part)]
    if not isinstance(template, str) or "${" not in template:
        return []
    assert template.startswith("${") and template.endswith("}"), f"an expression among text: {template!r}"
    return [template[2:-1]]
