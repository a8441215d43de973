"""Options of the figures that say how good and how useful generated images are."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from fl_app.options.sections import Section, split_words

FROM_FILE = ("inception", "file")
USEFULNESS = "usefulness"
CURVE = "curve"

_Networks = Annotated[tuple[Literal["pixels", "classifier", "inception", "file"], ...], BeforeValidator(split_words)]


class QualityOptions(Section):
    """How generated images are compared with the hospitals' real ones at the end of a run that trains diffusion."""

    features: _Networks = Field(
        description="networks in whose features generated and real test images are compared, comma-separated: pixels "
        "(the images, made small), classifier (the one of this run), inception and file (quality.network-file); empty: "
        "none"
    )
    usefulness: bool = Field(
        description="whether nodes also train small classifiers on generated images, on real ones and on both, and "
        "test them on their real test images"
    )
    num_images: int = Field(
        ge=0, le=50_000, description="images that the exported diffusion model draws for it; 0: nothing is measured"
    )
    neighbours: int = Field(
        ge=1, le=100, description="k of precision, recall, density and coverage: the k-th neighbour gives the radius"
    )
    curve: Literal["", "pixels", "inception", "file"] = Field(
        description="network in whose features the server compares images with moments of the hospitals' test images "
        "in rounds with a gallery (pixels, inception or file; metrics.jsonl has the Fréchet distances); empty: none"
    )
    curve_images: int = Field(ge=2, le=50_000, description="images that the server draws for each point of the curve")
    export: Literal["last", "best"] = Field(
        description="diffusion weights that are exported: last (of the last round) or best (of the round with the "
        "lowest Fréchet distance of the curve, if there is one)"
    )
    network_file: str = Field(
        description="inception, file: safetensors file with the network's weights, on the server's machine; hospitals "
        "approve its SHA-256 by node option quality-networks"
    )

    @model_validator(mode="after")
    def _options_fit_together(self) -> Self:
        if len(set(self.features)) < len(self.features):
            raise ValueError(f"features must name each network once, got {', '.join(self.features)}")
        from_file = [name for name in dict.fromkeys((*self.features, self.curve)) if name in FROM_FILE]
        if len(from_file) > 1:
            raise ValueError("features and curve must name inception or file, not both: there is one network-file")
        if from_file and not self.network_file:
            raise ValueError(
                f"network-file must name a safetensors file for {from_file[0]}, and is empty: fl-app "
                "brings no weights along"
            )
        return self

    @model_validator(mode="after")
    def _best_has_a_curve(self) -> Self:
        if self.export == "best" and not self.curve:
            raise ValueError("export best needs the option curve, which says by which distance a round is the best one")
        return self

    @property
    def measured(self) -> tuple[str, ...]:
        """Everything that nodes are asked for, in this order: networks, and `usefulness`."""
        if self.num_images == 0:
            return ()
        return (*self.features, *((USEFULNESS,) if self.usefulness else ()))
