// What stands here in place of vmui, which Debian's VictoriaMetrics comes without. It asks for the same things at the
// same places, by the same rule: the API is beside the page, under /prometheus, whatever is in front of both. Queries
// are forms. What else vmui's pages ask for is in requests.json, with what is to come of it.
const root = document.getElementById("root");
// Without the user and password that the address may have been opened with: fetch() takes none.
const here = location.origin + location.pathname;
const place = here.replace(/\/(?:prometheus\/)?(?:graph|vmui)\/.*/, "");
const server = `${place}/prometheus`;
const settings = new URLSearchParams(location.hash.replace(/^#\/?\?/, ""));

async function json(url, form) {
  const answer = await fetch(url, form && { method: "POST", body: form });
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  return answer.json();
}

function graph(series, start, end) {
  const points = series.values.map(([time, value]) => `${((time - start) / (end - start)) * 600},${100 - value}`);
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("points", points.join(" "));
  return line;
}

async function main() {
  const { timezone } = await json(`${server}/vmui/timezone`);
  await json(`${server}/vmui/config.json`);
  await json(`${server}/vmui/custom-dashboards`);
  const query = settings.get("g0.expr");
  const [start, end] = [Number(settings.get("start")), Number(settings.get("end"))];
  const range = new URLSearchParams({ query, start, end, step: "15s", nocache: "1", trace: "1" });
  const { data } = await json(`${server}/api/v1/query_range`, range);
  const names = await json(`${server}/api/v1/label/team/values`);
  const canvas = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  canvas.setAttribute("width", "600");
  const legend = document.createElement("ul");
  for (const series of data.result) {
    canvas.append(graph(series, start, end));
    const item = document.createElement("li");
    item.textContent = JSON.stringify(series.metric);
    legend.append(item);
  }
  const statuses = [];
  for (const { path, form } of await json(new URL("./requests.json", here))) {
    const answer = await fetch(place + path, form && { method: "POST", body: new URLSearchParams(form) });
    await answer.text();
    statuses.push(answer.status);
  }
  root.append(canvas, legend, `teams: ${names.data.join(" ")}; `, `zone: ${timezone}; `, `statuses: ${statuses.join(" ")};`);
}

main().catch((error) => root.append(`failed: ${error.message}`));
