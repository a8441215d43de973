"""Flower's door to `fl_app.node.client`."""

from flwr.clientapp import ClientApp

from fl_app.node import answering, client

app = ClientApp(mods=[answering.print_log])

app.query("describe")(client.describe)
app.query("moments")(client.moments)
app.query("membership")(client.membership)
app.query("quality")(client.quality)
app.query("draw")(client.draw)
app.train()(client.train)
app.evaluate()(client.evaluate)
app.evaluate("heads")(client.heads)
