"""Options of the exported models."""

from pydantic import Field

from fl_app.options.sections import Section


class ExportOptions(Section):
    """What an exported model says about its origin."""

    site_names: bool = Field(
        description="whether the exported classifier names the sites whose sums it contains, and those left out; "
        "false: it holds their number only"
    )
    licence: str = Field(
        max_length=200,
        pattern=r"^[^\x00-\x1f\x7f]*$",
        description="the licence of the exported models, stated in their README.md; empty: it says that none is stated "
        "and that the hospitals decide",
    )
