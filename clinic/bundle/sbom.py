"""The software bill of materials: CycloneDX 1.6, JSON.

Rules kept here:

* Every component has a version, a licence and the SHA-256 of the file that is installed.
* Nothing but the inputs enters: no time, and a serial number derived from the rest.  The same bundle, the same bytes.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

from clinic.bundle.debian import Package
from clinic.bundle.licences import Text
from clinic.bundle.manifest import Program
from clinic.bundle.models import Model
from clinic.bundle.wheels import Wheel
from clinic.domain import canonical_json, canonical_sha256
from clinic.errors import InputError

_NAMESPACE: Final = uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")  # RFC 9562's for object identifiers

Json = dict[str, Any]


def sbom(
    program: Program,
    wheels: Sequence[Wheel],
    models: Sequence[Model],
    packages: Sequence[Package],
    texts: Sequence[Text],
) -> bytes:
    """Return the document.

    Raises:
        InputError: `licence_missing`: a wheel says nothing of its licence, and none of `texts` covers it.
    """
    covered = {name: text.licence.name for text in texts for name in text.licence.covers}
    components = [*(_wheel(wheel, covered) for wheel in wheels), *map(_model, models), *map(_package, packages)]
    subject = {
        "type": "application",
        "bom-ref": "clinic",
        "name": "clinic",
        "version": f"{program.version}+{program.commit[:12]}",
        "licenses": [{"expression": "Apache-2.0"}],
    }
    document: Json = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": subject},
        "components": components,
        "dependencies": [{"ref": "clinic", "dependsOn": [str(one["bom-ref"]) for one in components]}],
    }
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(_NAMESPACE, canonical_sha256(document))}"
    return canonical_json(document) + b"\n"


def _wheel(wheel: Wheel, covered: dict[str, str]) -> Json:
    licence = covered.get(wheel.name, wheel.licence)
    if licence is None:
        raise InputError(
            f"`{wheel.name}` says nothing of its licence",
            code="licence_missing",
            hint="look at its project, and name the licence in `clinic/bundle/licences.py` or do without the package",
        )
    is_spdx = wheel.is_spdx and wheel.name not in covered
    return {
        "type": "library",
        **_named(f"pkg:pypi/{wheel.name}@{quote(wheel.version)}", wheel.name, wheel.version),
        **_file(wheel.content.sha256),
        "licenses": [{"expression": licence}] if is_spdx else _licences(licence),
    }


def _model(model: Model) -> Json:
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{model.name}",
        "name": model.name,
        "version": model.sha256[:12],
        **_file(model.sha256),
        "licenses": _licences(model.licence.licence.name),
    }


def _package(package: Package) -> Json:
    purl = f"pkg:deb/debian/{quote(package.name)}@{quote(package.version)}?arch={package.architecture}"
    return {
        "type": "application",
        **_named(purl, package.name, package.version),
        **_file(package.content.sha256),
        "licenses": _licences(f"text in /usr/share/doc/{package.name}/copyright"),
    }


def _named(purl: str, name: str, version: str) -> Json:
    return {"bom-ref": purl, "purl": purl, "name": name, "version": version}


def _file(sha256: str) -> Json:
    return {"hashes": [{"alg": "SHA-256", "content": sha256}]}


def _licences(name: str) -> list[Json]:
    return [{"license": {"name": name}}]
