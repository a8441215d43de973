"""Options of the audit: does a diffusion model know its training images by heart?"""

from pydantic import Field

from fl_app.options.sections import OptionValue, Section

# Of runs of versions without an audit.
NO_AUDIT: dict[str, OptionValue] = {
    "audit.membership": False,
    "audit.gate": False,
    "audit.max-auc": 0.65,
    "audit.num-images": 500,
    "audit.copies-images": 0,
}


class AuditOptions(Section):
    """Membership inference at the nodes, and what becomes of a model that fails it."""

    membership: bool = Field(
        description="after the last round of a diffusion model, nodes count their training, held-out and test images "
        "by how well the exported weights know them; false: no audit, and no gate"
    )
    gate: bool = Field(
        description="a model that is beyond the limit, or draws more near copies of training images than held-out "
        "images explain, over all sites, all but one, or at one site, is exported as model.quarantined, which "
        "fl-app sample opens with --quarantined only; false: the audit only tells"
    )
    max_auc: float = Field(
        ge=0.5,
        lt=1,
        description="limit of the AUC between training and held-out images: the model is beyond it if the lower end of "
        "a 95 % interval is, and has passed if the upper ends of all are below it; 0.5 is chance",
    )
    num_images: int = Field(
        ge=1, description="most images of each part (training, held-out, test) that a node scores, nine times each"
    )
    copies_images: int = Field(
        ge=0,
        description="images that each node draws itself after the last round, to look for near copies of its training "
        "images among them, with `membership`; 0: no search",
    )
