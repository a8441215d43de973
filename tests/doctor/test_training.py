"""What doctor says of a rehearsal."""

from fl_app.doctor.training import LocalRound, judge_training


def rounds(*losses: float) -> list[LocalRound]:
    return [LocalRound(loss, 50, 2.0) for loss in losses]


def test_held_out_images_decide_whether_training_helped() -> None:
    better = judge_training("diffusion", rounds(1.0, 2.0), 0.8, 0.5)
    assert better.verdict == "ready"
    assert better.text == (
        "2 rounds, nothing sent: training loss 1.0000, 2.0000; 25 images/s; on held-out images 0.8000 before, "
        "0.5000 after."
    )
    assert judge_training("diffusion", rounds(2.0, 1.0), 0.5, 0.8).verdict == "warning"


def test_a_held_out_loss_of_0_is_a_measurement() -> None:
    assert judge_training("x", rounds(1.0), 0.5, 0.0).verdict == "ready"


def test_without_held_out_images_the_training_loss_decides() -> None:
    assert judge_training("x", rounds(2.0, 1.0), None, None).verdict == "ready"
    assert judge_training("x", rounds(1.0, 2.0), None, None).verdict == "warning"
    assert judge_training("x", rounds(1.0), None, None).verdict == "ready"


def test_no_image_is_not_ready() -> None:
    assert judge_training("x", [LocalRound(float("nan"), 0, 0.0)], None, None).verdict == "not ready"
