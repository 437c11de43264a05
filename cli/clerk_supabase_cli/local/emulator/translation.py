"""SAM's translation of a template in the local stack, as on AWS: with the values of the parameters.

MiniStack runs the same translator as AWS, but with the defaults of all parameters. So another value would make no new
deployment of the API, and the API would let in every address.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

Template = dict[str, Any]


class Translate(Protocol):
    """Translates a template, with the parameters of the request and the values of the stack before."""

    def __call__(self, template: Template, given: Any = None, previous: Any = None) -> Template: ...


def with_values(translate: Translate, values: Callable[[Template, Any, Any], Mapping[str, str]]) -> Translate:
    """The translator *translate*, called with the *values* of the parameters in place of their defaults."""

    def translated(template: Template, given: Any = None, previous: Any = None) -> Template:
        declared = template.get("Parameters", {})
        known = values(template, given, previous)
        valued = {name: {**each, "Default": known[name]} if name in known else each for name, each in declared.items()}
        done = translate({**template, "Parameters": valued}, given, previous)
        done["Parameters"] = declared
        return without_codedeploy(done)

    return translated


def without_codedeploy(template: Template) -> Template:
    """The template without gradual deployments: MiniStack has no CodeDeploy, so a new version goes live at once."""
    resources = template.get("Resources", {})
    for name, resource in list(resources.items()):
        if resource.get("Type", "").startswith("AWS::CodeDeploy::"):
            del resources[name]
        elif "CodeDeployLambdaAliasUpdate" in resource.get("UpdatePolicy", {}):
            del resource["UpdatePolicy"]
    return template
