"""Flower's door to `fl_app.node.client`."""

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fl_app.node import answering, client

app = ClientApp(mods=[answering.print_log])


@app.query("describe")
def describe(message: Message, context: Context) -> Message:
    """Tell what images this node holds, in numbers."""
    return client.describe(message, context)


@app.query("moments")
def moments(message: Message, context: Context) -> Message:
    """Sum up the embeddings of each class."""
    return client.moments(message, context)


@app.query("membership")
def membership(message: Message, context: Context) -> Message:
    """Count images by how well the model knows them."""
    return client.membership(message, context)


@app.query("quality")
def quality(message: Message, context: Context) -> Message:
    """Compare generated images with this node's own, in numbers."""
    return client.quality(message, context)


@app.query("draw")
def draw(message: Message, context: Context) -> Message:
    """Draw images of classes that this node lacks, and keep them."""
    return client.draw(message, context)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train for one round."""
    return client.train(message, context)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Measure the final models."""
    return client.evaluate(message, context)


@app.evaluate("heads")
def heads(message: Message, context: Context) -> Message:
    """Measure the classification heads."""
    return client.heads(message, context)
