"""Nets as C: the same answers, without a warning, wherever they are compiled."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import kilonet as kn
from export.nets import images_for, logits_of, random_model
from kilonet.errors import ConfigError, ModelError
from kilonet.export import c, compiled
from kilonet.export.c_text import identifier
from kilonet.export.integers import QuantisedNet, scores
from kilonet.export.layers import Net, plain_net
from kilonet.export.proof import MissingToolError
from kilonet.export.quantise import quantise
from kilonet.models import Classifier

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXERCISE = Path(__file__).parent / "exercise.c"
WARNINGS = (
    *(
        "-Wall",
        "-Wextra",
        "-Wpedantic",
        "-Wconversion",
        "-Wshadow",
        "-Wdouble-promotion",
        "-Wcast-qual",
        "-Wcast-align",
    ),
    *("-Wundef", "-Werror"),
)
CORTEX_M4 = ("-mcpu=cortex-m4", "-mthumb", "-Os", "-std=c99", "-ffunction-sections", "-fdata-sections")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1")


def needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not there")


def call(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]} gives {done.returncode}: {done.stdout}\n{done.stderr}"
    return done.stdout


def logits_in_integers(net: QuantisedNet, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.ldexp(scores(net, images).astype(np.float64), -net.fraction_bits)


def library(path: Path, *flags: str) -> ctypes.CDLL:
    needs("gcc")
    built = path.with_suffix(".so")
    call("gcc", "-std=c99", "-O1", "-shared", "-fPIC", *flags, path, "-o", built, "-lm")
    return ctypes.CDLL(str(built))


@pytest.fixture(scope="module")
def kilo_4k(mnist_5k: kn.ImageSet) -> Net:
    return plain_net(kn.build("kilo-4k", mnist_5k, seed=0).eval(), "c")


@pytest.fixture(scope="module")
def written(kilo_4k: Net, mnist_5k: kn.ImageSet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`float` and `int8`: kilo-4k as C."""
    folder = tmp_path_factory.mktemp("c")
    found = {kind: folder / kind / "kilo_4k.c" for kind in ("float", "int8")}
    for path in found.values():
        path.parent.mkdir()
    c.write(kilo_4k, found["float"], mnist_5k.images[7])
    c.write(quantise(kilo_4k, mnist_5k.pixels), found["int8"], mnist_5k.pixels[7])
    return found


def check_random_net(seed: int, folder: Path) -> None:
    model = random_model(seed)
    net, images = plain_net(model, "c"), images_for(model, 60)
    expected, quantised = logits_of(model, images), quantise(net, images)
    c.write(net, folder / "float.c", images[5])
    found = c.logits(folder / "float.c", images)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    c.write(quantised, folder / "int8.c", images[5])
    np.testing.assert_array_equal(c.logits(folder / "int8.c", images), logits_in_integers(quantised, images))


@pytest.mark.parametrize("seed", range(8))
def test_random_nets(seed: int, tmp_path: Path) -> None:
    needs(compiled.compiler()[0])
    check_random_net(seed, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(100, 180))
def test_more_random_nets(seed: int, tmp_path: Path) -> None:
    check_random_net(seed, tmp_path)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("kind", ["float", "int8"])
@pytest.mark.parametrize("preparation", ["digit", "resize"])
def test_no_warnings(compiler: str, kind: str, preparation: str, written: dict[str, Path], tmp_path: Path) -> None:
    needs(compiler)
    path = written[kind]
    if preparation == "resize":
        path = tmp_path / "odd.c"
        model = random_model(1)
        net, images = plain_net(model, "c"), images_for(model, 20)
        c.write(net if kind == "float" else quantise(net, images), path, images[0])
    prefix = path.with_suffix(".h").read_text().split("#ifndef ")[1].split("_H\n")[0]
    for flags in ([], ["-O2", f"-D{prefix}_PROBABILITIES"]):
        call(
            compiler,
            "-std=c99",
            *WARNINGS,
            "-Wstrict-prototypes",
            "-Wmissing-prototypes",
            *flags,
            "-c",
            path,
            "-o",
            tmp_path / "made.o",
        )


@pytest.mark.parametrize("standard", ["c++11", "c++17"])
def test_header_in_c_plus_plus(standard: str, written: dict[str, Path], tmp_path: Path) -> None:
    needs("gcc", "g++")
    main = tmp_path / "main.cpp"
    main.write_text(
        '#include "kilo_4k.h"\n#include <cstdio>\n'
        "int main() { std::puts(kilo_4k_classes[3]); return kilo_4k_self_test() + KILO_4K_WIDTH - 28; }\n"
    )
    call("gcc", "-std=c99", "-c", written["int8"], "-o", tmp_path / "net.o")
    folder = f"-I{written['int8'].parent}"
    call("g++", f"-std={standard}", *WARNINGS, folder, main, tmp_path / "net.o", "-o", tmp_path / "main")
    assert call(tmp_path / "main") == "3\n"


def exercised(path: Path, prefix: str, shape: tuple[int, int, int], classes: int, compiler: str, built: Path) -> int:
    sizes = f"-DCHANNELS={shape[0]}", f"-DIMAGE_BYTES={np.prod(shape)}", f"-DCLASS_COUNT={classes}"
    names = f'-DHEADER="{path.with_suffix(".h").name}"', f"-DNET={prefix}", f"-D{prefix.upper()}_PROBABILITIES"
    call(compiler, "-std=c99", *SANITIZERS, *sizes, *names, f"-I{path.parent}", path, EXERCISE, "-lm", "-o", built)
    return int(call(built))


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_every_function_under_sanitizers(kind: str, written: dict[str, Path], tmp_path: Path) -> None:
    needs("gcc")
    assert exercised(written[kind], "kilo_4k", (1, 28, 28), 10, "gcc", tmp_path / "exercise") > 40


def test_a_colour_net_under_sanitizers(tmp_path: Path) -> None:
    needs("clang")
    model = random_model(3)
    net, images = plain_net(model, "c"), images_for(model, 20)
    assert model.shape[0] == 3
    c.write(quantise(net, images), tmp_path / "net.c", images[0])
    drawn = exercised(tmp_path / "net.c", "net", model.shape, len(net.classes), "clang", tmp_path / "exercise")
    assert drawn > 290, "of 416; nothing is drawn where one side is 64 times the other and more"


def test_32_bit_arm(written: dict[str, Path], kilo_4k: Net, mnist_5k: kn.ImageSet) -> None:
    needs("arm-linux-gnueabihf-gcc", "qemu-arm")
    images = mnist_5k.images[::50]
    found = {
        kind: compiled.run(path, images, ["arm-linux-gnueabihf-gcc", "-static"], ["qemu-arm"])
        for kind, path in written.items()
    }
    here = c.logits(written["float"], images)
    np.testing.assert_allclose(found["float"], here, atol=1e-4)
    np.testing.assert_array_equal(found["int8"], logits_in_integers(quantise(kilo_4k, mnist_5k.pixels), images))


def sizes_on_cortex_m4(path: Path, calls: str, folder: Path, *flags: str) -> tuple[int, int]:
    """Bytes of flash and of static memory of a program that makes some calls and has nothing else in it."""
    main, program = folder / "main.c", folder / "program"
    main.write_text(
        f'#include "{path.name}"\nvolatile int answer; extern uint8_t given[]; void _start(void) {{ {calls} }}\n'
    )
    alone = ("-nostdlib", "-Wl,--gc-sections", "-Wl,--defsym=given=0x20000000", "-Wl,-e,_start")
    call("arm-none-eabi-gcc", *CORTEX_M4, *flags, f"-I{path.parent}", main, *alone, "-lc", "-lgcc", "-o", program)
    line = call("arm-none-eabi-size", program).splitlines()[1].split()
    return int(line[0]) + int(line[1]), int(line[1]) + int(line[2])


def test_flash_and_ram_on_cortex_m4(written: dict[str, Path], tmp_path: Path) -> None:
    """Without a floating-point unit, preparing a picture needs the compiler's functions for floats on top."""
    needs("arm-none-eabi-gcc")
    classify = "answer = kilo_4k_classify(given);"
    prepare = f"answer = kilo_4k_prepare(given, 99, 99, 99, given); {classify}"
    unit = "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"
    alone, ram = sizes_on_cortex_m4(written["int8"], classify, tmp_path)
    both, ram_of_both = sizes_on_cortex_m4(written["int8"], prepare, tmp_path, *unit)
    without, _ = sizes_on_cortex_m4(written["int8"], prepare, tmp_path)
    print(
        f"kilo-4k int8 on Cortex-M4: {alone:,} bytes of flash, with prepare {both:,} with and {without:,} without a "
        f"floating-point unit; {ram:,} of RAM"
    )
    assert alone <= both <= 12_000
    assert ram_of_both == ram <= 8_000
    assert f"#define KILO_4K_RAM_BYTES {ram - 4} " in written["int8"].with_suffix(".h").read_text(), "`answer` has 4"


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_no_doubles_and_no_library(kind: str, written: dict[str, Path], tmp_path: Path) -> None:
    needs("arm-none-eabi-gcc")
    call("arm-none-eabi-gcc", *CORTEX_M4, "-c", written[kind], "-o", tmp_path / "net.o")
    wanted = set(call("arm-none-eabi-nm", "-u", tmp_path / "net.o").split()) - {"U"}
    assert [name for name in wanted if not re.fullmatch(r"__aeabi_(f.*|u?i2f)|memset|memcpy", name)] == []
    assert re.findall(r"#include <(.*)>", written[kind].read_text()) == ["math.h"]


def test_classify_needs_no_floats_in_integers(written: dict[str, Path], tmp_path: Path) -> None:
    needs("arm-none-eabi-gcc")
    main = tmp_path / "main.c"
    main.write_text('#include "kilo_4k.c"\nvoid _start(void) { kilo_4k_classify((const uint8_t *)0x20000000); }\n')
    flags = ("-nostdlib", "-Wl,--gc-sections", "-Wl,-e,_start")
    folder = f"-I{written['int8'].parent}"
    call("arm-none-eabi-gcc", *CORTEX_M4, folder, main, *flags, "-lgcc", "-o", tmp_path / "program")
    names = call("arm-none-eabi-nm", tmp_path / "program")
    assert "kilo_4k_scores" in names
    assert not re.search(r"__aeabi_[fd]|prepare|test_pixels|kilo_4k_logits", names)


NAMES = ('a"b\n', "*/ int x; /*", "??/", "\\", "%s", "é漢", "a\0b", "x" * 5000, "//", "'")


def test_several_nets_can_be_linked_together(kilo_4k: Net, mnist_5k: kn.ImageSet, tmp_path: Path) -> None:
    needs("gcc")
    c.write(kilo_4k, tmp_path / "first.c", mnist_5k.images[7])
    c.write(quantise(kilo_4k, mnist_5k.pixels), tmp_path / "second.c", mnist_5k.pixels[7])
    (tmp_path / "main.c").write_text(
        '#include "first.h"\n#include "second.h"\nint main(void) { return first_self_test() + second_self_test(); }\n'
    )
    call("gcc", *WARNINGS, *(tmp_path / f"{name}.c" for name in ("main", "first", "second")), "-o", tmp_path / "main")
    call(tmp_path / "main")


def test_names_from_outside(tmp_path: Path) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, len(NAMES)))
    model = Classifier(linear, name='*/ #error "??/', shape=(1, 4, 4), classes=NAMES).eval()
    path, images = tmp_path / "net.c", images_for(model, 10)
    c.write(plain_net(model, "c"), path, images[2])
    np.testing.assert_allclose(c.logits(path, images), logits_of(model, images), atol=1e-4)
    found = library(path, *WARNINGS, "-Wno-cast-qual")
    names = (ctypes.c_char_p * len(NAMES)).in_dll(found, "net_classes")
    wanted = [name.split("\0")[0].encode()[:1000] for name in NAMES]
    assert [(name or b"")[:1000] for name in names] == wanted


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("kilo-4k", "kilo_4k"),
        ("8bit", "net_8bit"),
        ("", "net"),
        ("漢", "net"),
        ("int8", "net_int8"),
        ("__A  b__", "a_b"),
    ],
)
def test_identifiers(name: str, prefix: str) -> None:
    assert identifier(name) == prefix


@pytest.mark.parametrize("name", ["net.h", 'a"b.c', "a\nb.c", "??/.c", "é.c", ".c"])
def test_file_names_that_can_not_be_included(name: str, kilo_4k: Net, tmp_path: Path) -> None:
    with pytest.raises((ConfigError), match=r"expected a name of letters"):
        c.write(kilo_4k, tmp_path / name, np.zeros((1, 28, 28), np.uint8))


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    model = random_model(0)
    net = plain_net(model, "c")
    weight = next(layer.weight for layer in net.layers if layer.weight is not None)
    weight.flat[0] = np.nan
    with pytest.raises(ModelError, match="no finite number"):
        c.write(net, tmp_path / "net.c", images_for(model, 3)[0])


def test_probabilities(written: dict[str, Path], mnist_5k: kn.ImageSet) -> None:
    images = mnist_5k.images[::500]
    for kind, path in written.items():
        found = library(path, "-DKILO_4K_PROBABILITIES")
        logits, given = c.logits(path, images), (ctypes.c_float * 10)()
        for image, row in zip(images, logits, strict=True):
            found.kilo_4k_probabilities(image.tobytes(), given)
            expected = torch.from_numpy(row).softmax(0).numpy()
            np.testing.assert_allclose(np.array(given), expected, atol=1e-6, err_msg=kind)


def test_probabilities_of_far_logits(tmp_path: Path) -> None:
    linear = torch.nn.Linear(16, 3)
    with torch.no_grad():
        linear.bias.copy_(torch.tensor([1000.0, -1000, 999]))
        linear.weight.fill_(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), linear)
    model = Classifier(net, name="far", shape=(1, 4, 4), classes=tuple("abc")).eval()
    images, given = images_for(model, 3), (ctypes.c_float * 3)()
    c.write(plain_net(model, "c"), tmp_path / "far.c", images[2])
    library(tmp_path / "far.c", "-DFAR_PROBABILITIES").far_probabilities(images[2].tobytes(), given)
    np.testing.assert_allclose(np.array(given), [0.7310586, 0, 0.2689414], atol=1e-6)


def test_equal_logits_give_the_first_class(tmp_path: Path) -> None:
    linear = torch.nn.Linear(16, 4)
    with torch.no_grad():
        linear.weight.fill_(1)
        linear.bias.copy_(torch.tensor([0.0, 1, 1, 1]))
    model = Classifier(
        torch.nn.Sequential(torch.nn.Flatten(), linear), name="tie", shape=(1, 4, 4), classes=tuple("abcd")
    ).eval()
    plain, images = plain_net(model, "c"), images_for(model, 10)
    for kind, one in (("float", plain), ("int8", quantise(plain, images))):
        (tmp_path / kind).mkdir()
        c.write(one, tmp_path / kind / "tie.c", images[2])
        found = library(tmp_path / kind / "tie.c")
        assert {found.tie_classify(image.tobytes()) for image in images} == {1}


def test_self_test_sees_a_wrong_weight(written: dict[str, Path], tmp_path: Path) -> None:
    for kind, path in written.items():
        assert library(path).kilo_4k_self_test() == 0
        text = path.read_text()
        at = text.index("kilo_4k_weight_2[") + 40
        damaged = text[:at] + re.sub(r"(?<=[ {])-?[\d.e-]+", "99.0" if kind == "float" else "99", text[at:], count=1)
        assert damaged != text
        wrong = tmp_path / kind / path.name
        wrong.parent.mkdir()
        wrong.write_text(damaged)
        shutil.copy(path.with_suffix(".h"), wrong.parent)
        assert library(wrong).kilo_4k_self_test() in (1, 2), kind
        with pytest.raises(ModelError, match="self-test"):
            c.logits(wrong, np.zeros((1, 1, 28, 28), np.uint8))


def test_c_that_does_not_compile(tmp_path: Path, written: dict[str, Path]) -> None:
    path = tmp_path / "kilo_4k.c"
    path.write_text(written["int8"].read_text() + "int unused_parameter(int x) { return 1; }\n")
    shutil.copy(written["int8"].with_suffix(".h"), tmp_path)
    with pytest.raises(ModelError, match=r"kilo_4k.c doesn't compile: .*unused"):
        c.logits(path, np.zeros((1, 1, 28, 28), np.uint8))


def test_without_a_compiler(written: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    with pytest.raises(MissingToolError, match="no-such-compiler"):
        c.logits(written["float"], np.zeros((1, 1, 28, 28), np.uint8))


def test_no_images(written: dict[str, Path]) -> None:
    assert c.logits(written["float"], np.zeros((0, 1, 28, 28), np.uint8)).shape == (0, 10)


def test_facts_are_those_of_the_header(kilo_4k: Net, written: dict[str, Path]) -> None:
    figures, header = c.facts(kilo_4k), written["float"].with_suffix(".h").read_text()
    for name, value in figures.items():
        assert f"_{name.upper()} {value} " in header
    assert figures["multiply_adds"] == sum(layer.multiply_adds for layer in kilo_4k.layers)
    assert figures["ram_bytes"] == 4 * (16 * 144 + 24 * 144) + 40


@pytest.mark.full
@pytest.mark.parametrize("name", ["kilo-4k", "tutorial-cnn", "linear"])
def test_full_mnist(full_mnist: kn.ImageSet, name: str, tmp_path: Path) -> None:
    data = full_mnist.split()
    assert data.test is not None
    assert data.val is not None
    model = kn.build(name, data.train, seed=0)
    kn.fit(model, data, kn.recipe(name, epochs=2, seed=0))
    model.eval()
    net, images = plain_net(model, "c"), data.test.pixels
    expected = np.concatenate([logits_of(model, part) for part in np.array_split(images, 10)])
    c.write(net, tmp_path / "float.c", images[0])
    found = c.logits(tmp_path / "float.c", images)
    print(f"{name}: greatest difference of a logit {np.abs(found - expected).max():.1e}")
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()
    assert np.abs(found - expected).max() <= 1e-4
    quantised = quantise(net, data.train.pixels)
    c.write(quantised, tmp_path / "int8.c", images[0])
    found = c.logits(tmp_path / "int8.c", images)
    np.testing.assert_array_equal(found, logits_in_integers(quantised, images))
