"""A mitmproxy script that meters rows without limits, for tests and a benchmark."""

METER = """
from mitmproxy import ctx
from vmgw_core.enforcement.cycle import State
from vmgw_core.errors import RateLimited, Refusal
from vmgw_core.rows.meter import RowMeter
from vmgw_core.rows.dispatch import row_counter
from vmgw_addons.steps.flow_responses import refuse

class Metering:
    "The rows that a request may write are in its header X-Rows. With X-Whole, an addon wants the body whole."

    def requestheaders(self, flow):
        cycle = ctx.master.addons.get("forwarding").cycles.get(flow)
        if flow.response is not None or cycle.grant is None or "x-rows" not in flow.request.headers:
            return
        left = int(flow.request.headers["x-rows"])

        def take(rows):
            nonlocal left
            if rows > left:
                raise RateLimited("no more rows", 7)
            left -= rows

        try:
            counter = row_counter(cycle.grant.route, cycle.head, max_decoded=64 << 20)
        except Refusal as refusal:
            refuse(flow, cycle, refusal)
            return
        if counter is not None:
            cycle.meter, cycle.state = RowMeter(counter, take), State.METERED
        if "x-whole" in flow.request.headers:
            flow.request.stream = False

addons = [Metering()]
"""
