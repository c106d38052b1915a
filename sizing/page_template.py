"""Page template: how every page of ours is rendered: values escaped, a name that is missing is an error, and one set
of colours (`templates/page_colours.css`) whichever package the page belongs to.
"""

from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template


@cache
def page_template(name: str, *, package: str = "sizing") -> Template:
    """A template of that package; it may include the style sheets of this one."""
    loaders = [PackageLoader(one) for one in dict.fromkeys((package, "sizing"))]
    environment = Environment(
        loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(name)
