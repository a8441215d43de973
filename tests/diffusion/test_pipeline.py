import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fl_app.data.images import DatasetInfo
from fl_app.diffusion.pipeline import ClassConditionalPipeline
from fl_app.diffusion.process import noise_schedule
from fl_app.diffusion.unet import build_unet
from fl_app.errors import OptionError

OPEN_AND_DRAW = """
import sys
from fl_app.diffusion.pipeline import ClassConditionalPipeline
pipeline = ClassConditionalPipeline.from_pretrained(sys.argv[1])
images = pipeline(["cat", 1], seed=3)
print("class names", pipeline.class_names, "shape", list(images.shape))
"""


def make_pipeline() -> ClassConditionalPipeline:
    torch.manual_seed(0)
    unet = build_unet(DatasetInfo(("cat", "dog"), 1, 8), (8, 8), 1, False)
    labels = {"0": "cat", "1": "dog", "2": "yak"}
    return ClassConditionalPipeline(unet, noise_schedule(1000), labels, {"2": False}, num_steps=3)


@pytest.fixture
def pipeline() -> ClassConditionalPipeline:
    return make_pipeline()


def test_a_new_process_opens_the_folder_with_one_call_and_draws_by_class(
    pipeline: ClassConditionalPipeline, tmp_path: Path
) -> None:
    pipeline.save_pretrained(tmp_path / "model")
    command = [sys.executable, "-c", OPEN_AND_DRAW, str(tmp_path / "model")]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert "class names ['cat', 'dog', 'yak'] shape [2, 1, 8, 8]" in result.stdout
    assert not list(tmp_path.rglob("*.bin"))
    assert (
        load_file(tmp_path / "model/unet/diffusion_pytorch_model.safetensors").keys()
        == pipeline.unet.state_dict().keys()
    )


def test_an_opened_pipeline_draws_the_same_images(pipeline: ClassConditionalPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path)
    opened = ClassConditionalPipeline.from_pretrained(tmp_path)
    torch.testing.assert_close(opened(["cat", "dog"], seed=1), pipeline(["cat", "dog"], seed=1), rtol=0, atol=1e-4)


def test_images_go_on_where_an_earlier_call_ended(pipeline: ClassConditionalPipeline) -> None:
    whole = pipeline(["dog"] * 4, seed=1)
    rest = pipeline(["dog"] * 2, seed=1, first_image=2, batch_size=1)
    torch.testing.assert_close(rest, whole[2:], rtol=0, atol=1e-4)


def test_nothing_asked_gives_nothing(pipeline: ClassConditionalPipeline) -> None:
    assert pipeline([]).shape == (0, 1, 8, 8)


def test_two_classes_start_from_different_noise(pipeline: ClassConditionalPipeline) -> None:
    assert not torch.equal(pipeline(["cat"], num_steps=1)[0], pipeline(["dog"], num_steps=1)[0])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cow", "no class 'cow'. The model knows: cat, dog, yak"),
        ("3", "no class '3'"),
        ("yak", "No node held an image of class 'yak'"),
    ],
)
def test_a_class_that_cannot_be_drawn_is_refused_by_name(
    pipeline: ClassConditionalPipeline, name: str, words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        pipeline([name])


def test_more_steps_than_there_are_noise_levels_are_refused(pipeline: ClassConditionalPipeline) -> None:
    with pytest.raises(OptionError, match="between 1 and 1000, got 1001"):
        pipeline(["cat"], num_steps=1001)


def test_ddim_refuses_steps_that_do_not_divide_the_noise_levels(pipeline: ClassConditionalPipeline) -> None:
    """The scheduler of diffusers steps down by the whole quotient, so that its levels would not be its own."""
    with pytest.raises(OptionError, match="must divide 1000 for ddim, got 300"):
        pipeline(["cat"], sampler="ddim", num_steps=300)


def test_a_number_is_a_position_and_text_a_name_where_classes_are_called_by_numbers() -> None:
    unet = build_unet(DatasetInfo(("1", "2", "3"), 1, 8), (8, 8), 1, False)
    grades = ClassConditionalPipeline(unet, noise_schedule(1000), {"0": "1", "1": "2", "2": "3"})
    assert (grades.class_index("1"), grades.class_index(1), grades.class_index("0")) == (0, 1, 0)


OPEN_AS_ANY = """
import sys
from diffusers import DiffusionPipeline
try:
    DiffusionPipeline.from_pretrained(sys.argv[1])
    print("opened without the import")
except Exception as error:
    print(str(error).replace("\\n", " "))
import fl_app.diffusion.pipeline
for folder in sys.argv[1:]:
    print(type(DiffusionPipeline.from_pretrained(folder)).__name__)
"""


@pytest.fixture(scope="module")
def opened_as_any(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What diffusers' own loader says in a new process: before the import, then after it of a new and an old folder."""
    new, old = tmp_path_factory.mktemp("new"), tmp_path_factory.mktemp("old")
    for folder in (new, old):
        make_pipeline().save_pretrained(folder)
    index = old / "model_index.json"
    index.write_text(index.read_text().replace("fl_app.diffusion.pipeline.", ""))
    command = [sys.executable, "-c", OPEN_AS_ANY, str(new), str(old)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()[-3:]


@pytest.mark.parametrize("is_old", [False, True])
def test_diffusers_own_loader_opens_the_folder_after_the_import(opened_as_any: list[str], is_old: bool) -> None:
    assert opened_as_any[1 + is_old] == "ClassConditionalPipeline"


def test_without_the_import_the_error_of_diffusers_says_what_to_import(opened_as_any: list[str]) -> None:
    assert "has no attribute fl_app.diffusion.pipeline.ClassConditionalPipeline" in opened_as_any[0]


@pytest.mark.filterwarnings("ignore:.torch_dtype. is deprecated:FutureWarning")  # older versions know no other name
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_the_export_draws_in_half_precision(
    pipeline: ClassConditionalPipeline, tmp_path: Path, dtype: torch.dtype, scale: float
) -> None:
    pipeline.save_pretrained(tmp_path)
    whole = pipeline(["cat", "dog"], seed=1, guidance_scale=scale)
    for opened in (
        ClassConditionalPipeline.from_pretrained(tmp_path, torch_dtype=dtype),
        ClassConditionalPipeline.from_pretrained(tmp_path).to(dtype),
    ):
        drawn = opened(["cat", "dog"], seed=1, guidance_scale=scale)
        assert drawn.dtype == torch.float32 and opened.unet.dtype == dtype
        assert float((drawn - whole).abs().mean()) < 0.1
