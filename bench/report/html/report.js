"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const state = { f: "0", m: "", b: "", x: "snr", at: "", bands: "", off: "", p: "0", l: "", r: "", s: "", t: "",
    d: "", z: "", v: "", o: "", rs: "", rn: "", rf: "" };
  for (const [key, value] of new URLSearchParams(location.hash.replace(/^#[a-z]*\??/, "")))
    if (key in state) state[key] = value;
  let chart = null;

  /* ---------- small helpers ---------- */
  const make = (tag, text, more = {}) => {
    const node = document.createElement(tag);
    if (text !== undefined && text !== null) node.textContent = text;
    for (const [key, value] of Object.entries(more))
      key === "class" ? (node.className = value) : node.setAttribute(key, value);
    return node;
  };
  const fill = (select, options, chosen) => {
    select.replaceChildren(...options.map(([value, text]) => make("option", text, { value })));
    if (options.some(([value]) => value === chosen)) select.value = chosen;
    select.disabled = options.length < 2;
    return select.value;
  };
  const save = () => {
    const kept = Object.entries(state).filter(([, value]) => value !== "");
    history.replaceState(null, "", "#?" + new URLSearchParams(kept));
  };
  const fixed = (value, digits) => (value === null || value === undefined ? "" : value.toFixed(digits));
  const signed = (value, digits) =>
    value === null ? "" : (value > 0 ? "+" : value < 0 ? "\u2212" : "") + Math.abs(value).toFixed(digits);
  const dark = () => document.documentElement.dataset.theme === "dark";
  /* A colour as it shows on the page's background: black turns white on dark, and dark colours are mixed with white. */
  const shade = (colour) => {
    if (!dark() || !/^#[0-9a-f]{6}$/i.test(colour)) return colour;
    if (/^#0{6}$/.test(colour)) return "#f2f2f2";
    const rgb = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16) / 255);
    const light = (mix) =>
      [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => sum + weight * (rgb[i] + (1 - rgb[i]) * mix) ** 2.2, 0);
    let mix = 0;
    while (light(mix) < 0.26) mix += 0.02;
    const part = (value) => Math.round(255 * (value + (1 - value) * mix)).toString(16).padStart(2, "0");
    return "#" + rgb.map(part).join("");
  };
  const cssOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const system = (name) => data.systems[name] || { label: name, colour: "#777777", dash: [], order: 99 };
  const budgetOf = (figure) =>
    figure.uses ? figure.uses + " uses" : figure.bits ? figure.bits / 1000 + " Kbits" : ratio(figure.cbr);
  const ratio = (cbr) => {
    if (!cbr) return "";
    const whole = 1 / cbr;
    return "CBR " + (Math.abs(whole - Math.round(whole)) < 1e-6 ? "1/" + Math.round(whole) : cbr.toPrecision(3));
  };
  const download = (name, head, rows) => {
    const text = csvText(head, rows);
    const link = make("a", "", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  /* A table whose columns sort. rows: arrays of values or {value, node}. */
  const table = (target, head, rows, words = []) => {
    const worth = (cell) => (cell && typeof cell === "object" ? cell.value : cell);
    let order = null,
      up = false;
    const draw = () => {
      const sorted =
        order === null
          ? rows
          : [...rows].sort((a, b) => {
              const [p, q] = [worth(a[order]), worth(b[order])];
              if (p === q) return 0;
              if (p === null || p === undefined || p === "") return 1;
              if (q === null || q === undefined || q === "") return -1;
              return (p < q ? -1 : 1) * (up ? 1 : -1);
            });
      const line = make("tr");
      head.forEach((name, index) => {
        const th = make("th", undefined, {
          scope: "col",
          "aria-sort": order === index ? (up ? "ascending" : "descending") : "none",
        });
        const button = make("button", name + (order === index ? (up ? " \u25b2" : " \u25bc") : ""), { type: "button" });
        button.onclick = () => {
          up = order === index ? !up : false;
          order = index;
          draw();
          target.querySelectorAll("th button")[index].focus();
        };
        th.append(button);
        line.append(th);
      });
      const top = make("thead"),
        body = make("tbody");
      top.append(line);
      for (const row of sorted) {
        const tr = make("tr");
        row.forEach((cell, index) => {
          const td = make("td", undefined, words.includes(index) ? { class: "words" } : {});
          cell && typeof cell === "object" && cell.node
            ? td.append(cell.node)
            : (td.textContent = cell === null || cell === undefined ? "" : worth(cell));
          tr.append(td);
        });
        body.append(tr);
      }
      target.replaceChildren(top, body);
    };
    draw();
  };

  /* ---------- what is chosen ---------- */
  const figure = () => data.figures[Number(state.f)] || data.figures[0];
  const isClass = (metric) => metric.startsWith("iou:");
  const metricFacts = (metric) =>
    isClass(metric)
      ? { label: "IoU of " + data.classes[Number(metric.slice(4))], unit: "%", factor: 1, digits: 2, higher: true }
      : data.metrics[metric];
  const off = () => new Set(state.off.split("~").filter(Boolean));
  const group = () => {
    const own = figure();
    return data.figures.filter(
      (f) =>
        f.run === own.run &&
        f.task === own.task &&
        f.dataset === own.dataset &&
        f.channel === own.channel &&
        f.points[state.m],
    );
  };
  /* One point of one system: {mean, low, high, n, lost} in the unit of the axis, or null. */
  const pointOf = (fig, metric, name, place) => {
    if (place < 0) return null;
    if (isClass(metric)) {
      const value = fig.classes[name]?.[place]?.[Number(metric.slice(4))];
      if (value === null || value === undefined) return null;
      const lost = fig.points[fig.metric]?.[name]?.[place]?.[4] ?? 0;
      return { mean: value, low: null, high: null, n: null, lost };
    }
    const facts = metricFacts(metric),
      raw = fig.points[metric]?.[name]?.[place];
    if (!raw) return null;
    const scale = (value) => (value === null ? null : value * facts.factor);
    return { mean: scale(raw[0]), low: scale(raw[1]), high: scale(raw[2]), n: raw[3], lost: raw[4] };
  };
  const gapOf = (fig, metric, name, base, place) => {
    if (name === base) {
      const own = pointOf(fig, metric, name, place);
      return own && (faded() || !own.lost) ? { mean: 0, low: 0, high: 0, n: own.n, lost: own.lost, word: "the reference" } : null;
    }
    const facts = metricFacts(metric);
    const pair = fig.lookup[metric]?.get(place + "\u0000" + name + "\u0000" + base),
      turned = pair ? null : fig.lookup[metric]?.get(place + "\u0000" + base + "\u0000" + name);
    const raw = pair || turned;
    if (!raw || raw[3] === null) return null;
    const sign = pair ? 1 : -1,
      scale = facts.factor * sign;
    const ends = [raw[4], raw[5]].map((value) => (value === null ? null : value * scale));
    if (sign < 0) ends.reverse();
    const spread = raw[7] === null ? null : raw[7] * facts.factor;
    const gap = { mean: raw[3] * scale, low: ends[0], high: ends[1], n: raw[6], spread };
    return { ...gap, lost: pointOf(fig, metric, name, place)?.lost || 0, word: verdictOf(gap, data.few, facts.higher) };
  };
  for (const fig of data.figures) {
    fig.lookup = {};
    for (const [metric, pairs] of Object.entries(fig.pairs))
      fig.lookup[metric] = new Map(pairs.map((row) => [row[2] + "\u0000" + row[0] + "\u0000" + row[1], row]));
  }
  /* All curves of the view: x values, and a list of points for each system. */
  const view = () => {
    const own = figure(),
      metric = state.m,
      relative = state.b !== "" && !isClass(metric) && metric !== "outage_rate";
    const read = (fig, name, place) =>
      relative ? gapOf(fig, metric, name, state.b, place) : pointOf(fig, metric, name, place);
    if (state.x === "budget") {
      const at = Number(state.at),
        figs = group()
          .sort((a, b) => (a.bits || a.cbr) - (b.bits || b.cbr))
          .filter((f, i, all) => i === 0 || (f.bits || f.cbr) !== (all[i - 1].bits || all[i - 1].cbr));
      const names = [...new Set(figs.flatMap((f) => f.systems))];
      return {
        xs: figs.map((f) => (f.bits ? f.bits / 1000 : f.cbr)),
        names,
        relative,
        points: Object.fromEntries(names.map((name) => [name, figs.map((f) => read(f, name, f.snrs.indexOf(at)))])),
      };
    }
    return {
      xs: own.snrs,
      names: own.systems,
      relative,
      points: Object.fromEntries(own.systems.map((name) => [name, own.snrs.map((_, place) => read(own, name, place))])),
    };
  };
  /* Where a picture was lost the mean holds grey pictures. On AWGN the curve is broken there; under fading every SNR
     loses pictures, and the curve is drawn with them. */
  const faded = () => figure().channel !== "awgn";
  const drawn = (point) => point && (point.lost === 0 || faded() || state.m === "outage_rate" || state.b !== "");

  /* Curves of other authors that fit the axes of the view. */
  const publishedNow = () =>
    state.b !== ""
      ? []
      : (figure().published[state.m] || []).filter((curve) =>
          state.x === "budget" ? curve.snr !== null && curve.snr === Number(state.at) : curve.snr === null,
        );

  /* ---------- curves ---------- */
  const controls = () => {
    const figures = data.figures.map((f, index) => [
      String(index),
      (data.runs.length > 1 ? f.run + ": " : "") + f.id + " \u2014 " + f.title,
    ]);
    state.f = fill($("figure"), figures, state.f);
    const own = figure();
    const near = (change) =>
      data.figures.filter((f) => f.run === own.run && f.task === own.task && f.dataset === own.dataset && change(f));
    fill(
      $("channel"),
      [...new Set(near(() => true).map((f) => f.channel))].map((name) => [name, name]),
      own.channel,
    );
    fill(
      $("budget"),
      [...new Set(near((f) => f.channel === own.channel).map(budgetOf))].map((name) => [name, name]),
      budgetOf(own),
    );
    const metrics = own.metrics.map((name) => [name, data.metrics[name].label]);
    if (Object.keys(own.classes).length)
      data.classes.forEach((name, index) => metrics.push(["iou:" + index, "IoU of " + name]));
    if (!metrics.some(([name]) => name === state.m)) state.m = own.metric;
    state.m = fill($("metric"), metrics, state.m);
    const fitting = isClass(state.m) || state.m === "outage_rate" ? [] : own.systems;
    if (!fitting.includes(state.b)) state.b = "";
    state.b = fill(
      $("base"),
      [["", "nothing (absolute values)"], ...fitting.map((name) => [name, system(name).label])],
      state.b,
    );
    const budgets = new Set(group().map(budgetOf));
    if (budgets.size < 2 || isClass(state.m)) state.x = "snr";
    state.x = fill(
      $("axis"),
      budgets.size > 1 && !isClass(state.m)
        ? [
            ["snr", "SNR"],
            ["budget", "budget"],
          ]
        : [["snr", "SNR"]],
      state.x,
    );
    $("at-label").hidden = state.x === "snr";
    if (state.x === "budget") {
      const all = [...new Set(group().flatMap((f) => f.snrs))]
        .sort((a, b) => a - b)
        .map((snr) => [String(snr), snr + " dB"]);
      const common = all.filter(([snr]) => group().every((f) => f.snrs.includes(Number(snr))));
      state.at = fill($("at"), common.length ? common : all, state.at);
    }
    $("bands").checked = state.bands === "1";
    const lost = Math.max(
      0,
      ...own.systems.flatMap((name) => (own.points[own.metric]?.[name] || []).map((p) => (p ? p[4] : 0))),
    );
    const origins = new Map();
    for (const { label, origin } of publishedNow()) origins.set(origin, [...(origins.get(origin) || []), label]);
    const elsewhere = [...origins].map(([origin, labels]) => ` ${labels.join("; ")}: ${origin}.`);
    $("figure-note").textContent =
      `${own.dataset}, ${own.channel}, ${budgetOf(own)}, ${own.rows.toLocaleString("en")} rows.` +
      (own.asked ? ` Asked for by "${own.asked}".` : "") +
      (state.b
        ? " Differences are paired over all pictures" +
          (faded() || !lost
            ? "; lost ones count as they were scored."
            : ". There is none at an SNR where one of the two lost pictures.")
        : lost
          ? faded()
            ? ` Lost pictures are scored as ${own.lostAs}: see the outage rate.`
            : " A curve is broken where a system lost pictures: see the outage rate."
          : "") +
      (elsewhere.length ? " Thin lines were trained and measured elsewhere." + elsewhere.join("") : "");
  };
  const thinDash = (place) => [[], [4, 2.5], [1.5, 2], [6, 2, 1.5, 2, 1.5, 2]][place % 4]; // of published curves
  const legend = (names) => {
    const hidden = off();
    const buttons = [...names]
      .sort((a, b) => system(a).order - system(b).order)
      .map((name) => {
        const own = system(name),
          shown = !hidden.has(name);
        const button = make("button", undefined, {
          type: "button",
          "aria-pressed": String(shown),
          "data-system": name,
        });
        button.innerHTML = `<svg width="30" height="10" aria-hidden="true"><line x1="0" y1="5" x2="30" y2="5" stroke="${shade(own.colour)}" stroke-width="2.5" stroke-dasharray="${own.dash.map((d) => d * 1.6).join(" ")}"/><circle cx="15" cy="5" r="3.2" fill="${shade(own.colour)}"/></svg>`;
        button.append(make("span", own.label));
        button.onclick = () => {
          const set = off();
          set.has(name) ? set.delete(name) : set.add(name);
          state.off = [...set].join("~");
          curves();
          [...$("legend").children].find((b) => b.dataset.system === name)?.focus();
        };
        return button;
      });
    const all = make("button", "Show all", { type: "button" });
    all.onclick = () => {
      state.off = "";
      curves();
    };
    const thin = publishedNow().map(({ label }, place) => {
      const entry = make("div", undefined, { class: "thin" });
      entry.innerHTML = `<svg width="30" height="10" aria-hidden="true"><line x1="0" y1="5" x2="30" y2="5" stroke="currentColor" stroke-dasharray="${thinDash(place).join(" ")}"/></svg>`;
      entry.append(make("span", label));
      return entry;
    });
    $("legend").replaceChildren(...buttons, ...thin, all);
  };
  const tipOf = () => $("tip") || document.body.appendChild(make("div", "", { id: "tip", role: "presentation" }));
  const describe = (point, facts, relative) => {
    const digits = facts.digits,
      show = relative ? signed : fixed,
      unit = relative && facts.unit === "%" ? " points" : facts.unit ? " " + facts.unit : "";
    let text = show(point.mean, digits) + unit;
    if (point.low !== null && point.low !== undefined && point.word !== "the reference")
      text += ` [${show(point.low, digits)}, ${show(point.high, digits)}]`;
    if (point.n) text += `, ${point.n} picture${point.n === 1 ? "" : "s"}`;
    if (point.lost) text += `, ${point.lost} lost`;
    if (point.spread === null) text += ", cells of a training are absent";
    else if (point.spread) text += `, ${fixed(point.spread, digits)}${unit} between trainings`;
    return point.word ? text + ", " + point.word : text;
  };
  const plot = (shown) => {
    const facts = metricFacts(state.m),
      hidden = off(),
      names = shown.names.filter((name) => !hidden.has(name));
    const columns = [shown.xs],
      series = [{}],
      bands = [],
      withBands = state.bands === "1" || (shown.relative && names.length < 4);
    for (const name of names) {
      const own = system(name),
        points = shown.points[name].map((point) => (drawn(point) ? point : null)),
        stroke = shade(own.colour);
      columns.push(points.map((point) => (point ? point.mean : null)));
      series.push({
        label: name,
        stroke,
        width: 2,
        dash: own.dash.map((d) => d * 1.8),
        spanGaps: false,
        points: { show: true, size: 6, fill: stroke, stroke },
      });
      if (withBands) {
        const at = columns.length;
        columns.push(
          points.map((p) => (p && p.high !== null ? p.high : null)),
          points.map((p) => (p && p.low !== null ? p.low : null)),
        );
        series.push(
          { stroke: "transparent", points: { show: false } },
          { stroke: "transparent", points: { show: false } },
        );
        bands.push({ series: [at, at + 1], fill: stroke + "22" });
      }
    }
    const along =
      state.x === "budget"
        ? figure().bits
          ? "Budget (Kbits)"
          : "CBR (complex channel uses per source value)"
        : "SNR (dB)";
    const unit = facts.unit ? ` (${shown.relative && facts.unit === "%" ? "points" : facts.unit})` : "";
    const label = (shown.relative ? "Difference: " : "") + facts.label + unit;
    const published = publishedNow();
    const [least, most] = [Math.min(...shown.xs), Math.max(...shown.xs)];
    const outside = published.flatMap((curve) => curve.values.filter((_, i) => curve.x[i] >= least && curve.x[i] <= most));
    const axis = {
      stroke: cssOf("--text"),
      grid: { stroke: cssOf("--line"), width: 0.7 },
      ticks: { stroke: cssOf("--line") },
      font: "13px system-ui, sans-serif",
      labelFont: "13px system-ui, sans-serif",
    };
    const host = $("chart"),
      tip = tipOf();
    const options = {
      width: host.clientWidth || 600,
      height: Math.max(300, Math.min(460, (host.clientWidth || 600) * 0.62)),
      scales: {
        ...(outside.length && {
          y: {
            range: (u, low, high) => {
              const ends = [Math.min(low ?? Infinity, ...outside), Math.max(high ?? -Infinity, ...outside)];
              return uPlot.rangeNum(...ends, 0.08, false);
            },
          },
        }),
        x: {
          time: false,
          range: (u, low, high) => {
            const room = (high - low || 1) * 0.03;
            return [low - room, high + room];
          },
        },
      },
      axes: [
        {
          ...axis,
          label: along,
          values: (u, ticks) =>
            ticks.map((tick) =>
              state.x === "budget" && !figure().bits ? ratio(tick).replace("CBR ", "") : String(+tick.toFixed(6)),
            ),
          ...(shown.xs.length <= 14 ? { splits: () => shown.xs } : {}),
        },
        { ...axis, label, size: 60 },
      ],
      series,
      bands,
      cursor: { focus: { prox: 24 } },
      legend: { show: false },
      hooks: {
        setCursor: [
          (u) => {
            const index = u.cursor.idx;
            if (index === null || index === undefined || u.cursor.left < 0) {
              tip.style.display = "none";
              return;
            }
            const lines = names
              .map((name) => [name, shown.points[name][index]])
              .filter(([, point]) => point)
              .sort((a, b) => (b[1].mean - a[1].mean) * (facts.higher ? 1 : -1));
            const head = make(
              "b",
              state.x === "budget"
                ? figure().bits
                  ? shown.xs[index] + " Kbits"
                  : ratio(shown.xs[index])
                : shown.xs[index] + " dB",
            );
            tip.replaceChildren(
              head,
              ...lines.map(([name, point]) => {
                const line = make("div"),
                  dot = make("i");
                dot.style.background = shade(system(name).colour);
                line.append(dot, system(name).label + ": " + describe(point, facts, shown.relative));
                return line;
              }),
            );
            tip.style.display = "block";
            const box = u.over.getBoundingClientRect(),
              width = tip.offsetWidth;
            let left = box.left + u.cursor.left + 14;
            if (left + width > innerWidth - 8) left = Math.max(4, box.left + u.cursor.left - width - 14);
            tip.style.left = left + scrollX + "px";
            tip.style.top = Math.max(4, box.top + u.cursor.top - 10) + scrollY + "px";
          },
        ],
        draw: [
          (u) => {
            const context = u.ctx;
            context.save();
            context.beginPath();
            context.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
            context.clip();
            context.strokeStyle = cssOf("--soft");
            context.lineWidth = devicePixelRatio;
            if (shown.relative) {
              const y = u.valToPos(0, "y", true);
              context.strokeStyle = cssOf("--text");
              context.beginPath();
              context.moveTo(u.bbox.left, y);
              context.lineTo(u.bbox.left + u.bbox.width, y);
              context.stroke();
            }
            published.forEach((curve, place) => {
              context.setLineDash(thinDash(place).map((length) => length * devicePixelRatio));
              context.beginPath();
              curve.x.forEach((x, i) => context.lineTo(u.valToPos(x, "x", true), u.valToPos(curve.values[i], "y", true)));
              context.stroke();
            });
            context.restore();
          },
        ],
      },
    };
    chart?.destroy();
    chart = new uPlot(options, columns, host);
    host.onmouseleave = () => {
      tip.style.display = "none";
    };
  };
  const pointsTable = (shown) => {
    const facts = metricFacts(state.m),
      hidden = off();
    const names = shown.names.filter((name) => !hidden.has(name)).sort((a, b) => system(a).order - system(b).order);
    const head = [
      "System",
      ...shown.xs.map((x) => (state.x === "budget" ? (figure().bits ? x + " Kbits" : ratio(x)) : x + " dB")),
    ];
    const rows = names.map((name) => [
      system(name).label,
      ...shown.points[name].map((point) => {
        if (!point) return { value: null, node: make("span", "") };
        const broken = !drawn(point);
        const node = make("span", broken ? "lost" : (shown.relative ? signed : fixed)(point.mean, facts.digits));
        if (shown.relative && point.word)
          node.className = point.word === "ahead" ? "better" : point.word === "behind" ? "worse" : "";
        node.title = describe(point, facts, shown.relative);
        node.append(
          make("br"),
          make(
            "small",
            broken
              ? `${point.lost} of ${point.n}`
              : point.lost && !shown.relative && state.m !== "outage_rate"
              ? `${point.lost} of ${point.n} lost`
              : shown.relative
                ? point.word
                : point.low === null
                  ? ""
                  : `${fixed(point.low, facts.digits)} to ${fixed(point.high, facts.digits)}`,
          ),
        );
        return { value: broken ? null : point.mean, node };
      }),
    ]);
    table($("points"), head, rows);
    const moved = (point) => (point.spread === null ? "inf" : point.spread ?? "");
    $("points-csv").onclick = () =>
      download(
        `${figure().id}-${state.m.replace(":", "-")}${state.b ? "-relative" : ""}.csv`,
        [
          "system",
          state.x === "budget" ? "budget" : "snr_db",
          "metric",
          "relative_to",
          "mean",
          "ci_low",
          "ci_high",
          "pictures",
          "lost",
          "training_spread",
          "verdict",
        ],
        names.flatMap((name) =>
          shown.points[name]
            .map((p, i) =>
              p
                ? [name, shown.xs[i], state.m, state.b, p.mean, p.low, p.high, p.n, p.lost, moved(p), p.word || ""]
                : null,
            )
            .filter(Boolean),
        ),
      );
  };
  const curves = () => {
    if (!data.figures.length) {
      $("chart").textContent = "This run has no finished points yet.";
      return;
    }
    controls();
    const shown = view();
    legend(shown.names);
    plot(shown);
    pointsTable(shown);
    save();
  };
  const shared = (change) => () => {
    change();
    curves();
    systemsTable();
    rowsControls();
  };

  /* ---------- pictures ---------- */
  const loaded = new Map();
  const load = (uri) =>
    loaded.get(uri) ||
    loaded
      .set(
        uri,
        new Promise((done, fail) => {
          const image = new Image();
          image.onload = () => done(image);
          image.onerror = fail;
          image.src = uri;
        }),
      )
      .get(uri);
  const items = data.pictures.items;
  const itemNow = () => items[Number(state.p)] || items[0];
  const snrsOf = (item) => [...new Set(item.outputs.map((o) => o.snr))].sort((a, b) => a - b);
  const outputOf = (item, name, snr) =>
    name === "original"
      ? { uri: item.original, original: true }
      : name === "truth"
        ? { uri: item.truth, truth: true }
        : item.outputs.find((o) => o.system === name && o.snr === snr);
  const pixels = (image, width, height) => {
    const c = document.createElement("canvas");
    c.width = width;
    c.height = height;
    const x = c.getContext("2d", { willReadFrequently: true });
    x.imageSmoothingEnabled = false;
    x.drawImage(image, 0, 0, width, height);
    return x.getImageData(0, 0, width, height);
  };
  const viewerControls = () => {
    $("viewer").hidden = !items.length;
    $("pictures-note").textContent = items.length
      ? "Photographs are shown as WebP; PSNR was measured on the exact output." +
        (data.pictures.left_out ? ` ${data.pictures.left_out} more pictures are in the run's folder.` : "")
      : "This run's folder holds no pictures (a committed run leaves them out; a run of your own keeps those of Fig. 6 and 7).";
    if (!items.length) return;
    state.p = fill(
      $("picture"),
      items.map((item, index) => [String(index), `${item.image} (${item.figure})`]),
      state.p,
    );
    const item = itemNow(),
      names = [...new Set([...item.outputs.map((o) => o.system), ...item.failed.map(([name]) => name)])].sort((a, b) => system(a).order - system(b).order);
    const options = [
      ...names.map((name) => [name, system(name).label]),
      ["original", "Original"],
      ...(item.truth ? [["truth", "True labels"]] : []),
    ];
    state.l = fill($("left"), options, options.some(([v]) => v === state.l) ? state.l : options[0][0]);
    state.r = fill($("right"), options, options.some(([v]) => v === state.r) ? state.r : (options[1] || options[0])[0]);
    const snrs = snrsOf(item);
    $("snr").max = String(snrs.length - 1);
    const place = snrs.indexOf(Number(state.s));
    $("snr").value = String(state.s !== "" && place >= 0 ? place : snrs.length - 1);
    state.s = String(snrs[Number($("snr").value)]);
    $("snr-text").textContent = ` ${state.s} dB`;
    $("snr").setAttribute("aria-valuetext", state.s + " dB");
    const masks = item.task === "segmentation";
    $("opacity-label").hidden = !masks;
    $("difference-text").textContent = masks
      ? "Mistakes (red: labels that differ from the true ones)"
      : "Error map (4 times the difference to the original)";
    $("class-legend").replaceChildren();
  };
  const caption = (output, name) => {
    if (!output) {
      const failed = itemNow().failed.some(([one, snr]) => one === name && snr === Number(state.s));
      return system(name).label + (failed ? ": failed at this SNR" : ": not kept at this SNR");
    }
    if (output.original) return "Original";
    if (output.truth) return "True labels";
    const score =
      output.psnr !== null
        ? output.psnr.toFixed(2) + " dB"
        : output.miou !== null
          ? (100 * output.miou).toFixed(1) + " % mIoU of this picture"
          : "";
    return `${system(name).label}: ${output.lost ? "lost (outage)" : score}, ${output.uses.toLocaleString("en")} uses, ${state.s} dB`;
  };
  /* Red where two class maps differ, clear elsewhere and where the truth is void. */
  const mistakes = (image, truth, width, height) => {
    const a = pixels(image, width, height),
      b = pixels(truth, width, height),
      known = new Set(data.palette.map((c) => c.join()));
    for (let i = 0; i < a.data.length; i += 4) {
      const same = [0, 1, 2].every((c) => a.data[i + c] === b.data[i + c]);
      const scored = known.has(`${b.data[i]},${b.data[i + 1]},${b.data[i + 2]}`);
      a.data.set([210, 20, 20, same || !scored ? 0 : 190], i);
    }
    return canvasOf(a);
  };
  /* A class map whose background is clear, and the classes in it. */
  const painted = (image, width, height) => {
    const content = pixels(image, width, height),
      known = new Map(data.palette.map((c, id) => [c.join(), id])),
      seen = new Set();
    for (let i = 0; i < content.data.length; i += 4) {
      const id = known.get(`${content.data[i]},${content.data[i + 1]},${content.data[i + 2]}`);
      if (id === 0) content.data[i + 3] = 0;
      if (id !== undefined) seen.add(id);
    }
    return { content, seen };
  };
  const canvasOf = (content) => {
    const c = document.createElement("canvas");
    c.width = content.width;
    c.height = content.height;
    c.getContext("2d").putImageData(content, 0, 0);
    return c;
  };
  let turn = 0;
  const pictures = async () => {
    viewerControls();
    if (!items.length) return;
    const mine = ++turn,
      item = itemNow(),
      snr = Number(state.s);
    const sides = [state.l, state.r].map((name) => outputOf(item, name, snr));
    $("left-text").textContent = caption(sides[0], state.l);
    $("right-text").textContent = caption(sides[1], state.r);
    const original = await load(item.original),
      truth = item.truth ? await load(item.truth) : null,
      shown = await Promise.all(sides.map((side) => (side?.uri ? load(side.uri) : null)));
    if (mine !== turn) return;
    const width = original.naturalWidth,
      height = original.naturalHeight,
      canvas = $("canvas"),
      context = canvas.getContext("2d");
    const room = [($("viewer").clientWidth - 2) / width, (0.68 * innerHeight) / height];
    const fit = Math.min(3, Math.max(0.2, Math.min(...room))),
      scale = fit * Number($("zoom").value);
    canvas.width = width;
    canvas.height = height;
    canvas.style.width = width * scale + "px";
    canvas.style.height = height * scale + "px";
    canvas.style.imageRendering = scale > 1.4 ? "pixelated" : "auto";
    const cut = Math.round((width * Number($("divider").value)) / 100),
      parts = [
        [0, cut],
        [cut, width],
      ];
    const classes = new Set();
    shown.forEach((image, index) => {
      const [from, to] = parts[index];
      context.save();
      context.beginPath();
      context.rect(from, 0, to - from, height);
      context.clip();
      context.clearRect(0, 0, width, height);
      if (item.task === "segmentation") {
        context.filter = image === original ? "none" : "grayscale(1)"; // so that colours are those of classes alone
        context.drawImage(original, 0, 0, width, height);
        context.filter = "none";
        if (image && image !== original && $("difference").checked && truth) {
          context.drawImage(mistakes(image, truth, width, height), 0, 0);
        } else if (image && image !== original) {
          const { content, seen } = painted(image, width, height);
          context.globalAlpha = Number($("opacity").value) / 100;
          context.drawImage(canvasOf(content), 0, 0);
          seen.forEach((id) => classes.add(id));
        }
      } else if (image) {
        if ($("difference").checked && image !== original) {
          const a = pixels(image, width, height),
            b = pixels(original, width, height);
          for (let i = 0; i < a.data.length; i += 4)
            for (let c = 0; c < 3; c++) a.data[i + c] = Math.min(255, 4 * Math.abs(a.data[i + c] - b.data[i + c]));
          context.drawImage(canvasOf(a), 0, 0);
        } else context.drawImage(image, 0, 0, width, height);
      }
      context.restore();
    });
    context.fillStyle = "#fff";
    context.fillRect(cut - 1, 0, 2, height);
    canvas.setAttribute("aria-label", `Left: ${$("left-text").textContent}. Right: ${$("right-text").textContent}.`);
    $("class-legend").replaceChildren(
      ...[...classes]
        .sort((a, b) => a - b)
        .map((id) => {
          const line = make("li"),
            box = make("i");
          box.style.background = `rgb(${data.palette[id]})`;
          line.append(box, data.classes[id] + (id === 0 ? " (the picture)" : ""));
          return line;
        }),
    );
    save();
  };
  const drag = (event) => {
    const box = $("canvas").getBoundingClientRect();
    divide(Math.max(0, Math.min(100, (100 * (event.clientX - box.left)) / box.width)));
  };

  /* ---------- tables ---------- */
  const systemsTable = () => {
    const own = figure();
    if (!own) return;
    const head = [
      "System",
      "Weights or scheme",
      "Uses",
      "of these side information",
      "Payload (bits)",
      "Coded bits",
      "Parameters",
      "FLOPs encode",
      "FLOPs decode",
      "Encode (ms)",
      "Decode (ms)",
      "Pictures seen",
      "Knowledge",
      "Licence of the weights",
    ];
    const round = (value, digits) => (typeof value === "number" ? +value.toFixed(digits) : null);
    const rows = own.systems.map((name) => {
      const s = system(name),
        spent = own.spent[name] || {};
      return [
        s.label,
        s.variant,
        round(spent.n_uses, 1),
        round(spent.side_uses, 1),
        round(spent.payload_bits, 0),
        round(spent.bits, 0),
        s.parameters || null,
        spent.flops_encode ?? null,
        spent.flops_decode ?? null,
        round(spent.encode_ms, 1),
        round(spent.decode_ms, 1),
        s.seen,
        s.knowledge,
        s.licence,
      ];
    });
    const counted = (value, index) => {
      if (index !== 7 && index !== 8) return value.toLocaleString("en");
      const [size, unit] = [[1e12, " T"], [1e9, " G"], [1e6, " M"]].find(([least]) => value >= least) || [1, ""];
      return +(value / size).toPrecision(3) + unit;
    };
    table(
      $("systems-table"),
      head,
      rows.map((row) =>
        row.map((cell, i) =>
          i >= 2 && i <= 11 && typeof cell === "number" ? { value: cell, node: make("span", counted(cell, i)) } : cell,
        ),
      ),
      [12, 13],
    );
    $("systems-csv").onclick = () => download(`${own.id}-systems.csv`, head, rows);
  };
  const claims = () => {
    if (!data.claims.length) {
      $("claims-list").append(make("p", "These runs hold none of the paper's figures."));
      return;
    }
    for (const claim of data.claims) {
      const box = make("div", undefined, { class: "claim " + claim.verdict });
      box.append(
        make("b", claim.verdict + (data.runs.length > 1 ? ` (${claim.run})` : "")),
        make("p", `${claim.statement} (${claim.source})`),
      );
      if (claim.restsOn) box.append(make("p", `Judged on ${claim.restsOn}.`));
      const list = make("ul");
      claim.numbers.forEach((line) => list.append(make("li", line)));
      if (claim.undertrained.length)
        list.append(make("li", "rests on systems marked undertrained: " + claim.undertrained.join(", ")));
      const more = make("details");
      more.append(make("summary", "Numbers"), list);
      box.append(more);
      $("claims-list").append(box);
    }
  };
  const rowsControls = () => {
    const own = figure();
    if (!own) return;
    if (!own.samples) {
      $("rows-note").textContent =
        `${own.rows.toLocaleString("en")} rows are too many for a page; they are in samples.csv.`;
      $("rows-table").replaceChildren();
      return;
    }
    fill(
      $("row-system"),
      own.samples.systems.map((name) => [name, system(name).label]),
      $("row-system").value || state.rs,
    );
    fill(
      $("row-snr"),
      own.snrs.map((snr) => [String(snr), snr + " dB"]),
      $("row-snr").value || state.rn,
    );
    rowsTable();
  };
  const rowsTable = () => {
    const own = figure(),
      s = own?.samples;
    if (!s) return;
    const name = $("row-system").value,
      snr = Number($("row-snr").value),
      words = $("row-filter").value.toLowerCase(),
      metrics = Object.keys(s.values),
      rows = [];
    for (let i = 0; i < s.image.length; i++) {
      if (s.systems[s.system[i]] !== name || s.snr[i] !== snr || !s.images[s.image[i]].toLowerCase().includes(words))
        continue;
      rows.push([
        s.images[s.image[i]],
        s.rep[i],
        ...metrics.map((m) => s.values[m][i]),
        s.uses[i],
        s.lost[i] ? "lost" : "ok",
      ]);
    }
    const head = ["Picture", "Draw", ...metrics, "Uses", "Status"];
    table($("rows-table"), head, rows);
    $("rows-note").textContent = `${rows.length} rows of ${system(name).label} at ${snr} dB.`;
    $("rows-csv").onclick = () => download(`${own.id}-${name}-${snr}dB.csv`, head, rows);
  };
  const rest = () => {
    $("runs").textContent = data.runs.map((run) => `${run.name} (${run.command})`).join("; ");
    for (const run of data.runs) {
      if (run.limited)
        $("warnings").append(make("p", `${run.name} was run with --limit: it is a trial, not a result.`));
      if (run.undertrained.length)
        $("warnings").append(
          make("p", `${run.name}: marked undertrained: ${run.undertrained.join(", ")}. No claim rests on them.`),
        );
      const box = make("details");
      box.append(make("summary", run.name), make("pre", JSON.stringify(run.manifest, null, 1)));
      $("manifests").append(box);
    }
  };

  /* ---------- wiring ---------- */
  const sibling = () => {
    const own = figure(),
      channel = $("channel").value,
      budget = $("budget").value;
    const fit = (f) =>
      (f.run === own.run) * 100 +
      (f.task === own.task) * 50 +
      (f.dataset === own.dataset) * 20 +
      (f.channel === channel) * 10 +
      (budgetOf(f) === budget) * 5 +
      (f.group === own.group);
    state.f = String(
      data.figures
        .map((f, i) => [fit(f), -i])
        .reduce((best, now) => (now[0] > best[0] || (now[0] === best[0] && now[1] > best[1]) ? now : best))[1] * -1,
    );
  };
  $("figure").onchange = shared(() => {
    state.f = $("figure").value;
    state.m = "";
  });
  $("channel").onchange = shared(sibling);
  $("budget").onchange = shared(sibling);
  $("metric").onchange = shared(() => {
    state.m = $("metric").value;
  });
  $("base").onchange = shared(() => {
    state.b = $("base").value;
  });
  $("axis").onchange = shared(() => {
    state.x = $("axis").value;
  });
  $("at").onchange = shared(() => {
    state.at = $("at").value;
  });
  $("bands").onchange = shared(() => {
    state.bands = $("bands").checked ? "1" : "";
  });
  for (const [id, key] of [
    ["picture", "p"],
    ["left", "l"],
    ["right", "r"],
  ])
    $(id).onchange = () => {
      state[key] = $(id).value;
      pictures();
    };
  $("snr").oninput = () => {
    state.s = String(snrsOf(itemNow())[Number($("snr").value)]);
    pictures();
  };
  for (const [id, key, usual] of [
    ["divider", "v", "50"],
    ["zoom", "z", "1"],
    ["opacity", "o", "60"],
  ]) {
    if (state[key] !== "") $(id).value = state[key];
    $(id).oninput = () => {
      state[key] = $(id).value === usual ? "" : $(id).value;
      pictures();
    };
  }
  $("difference").checked = state.d === "1";
  $("difference").oninput = () => {
    state.d = $("difference").checked ? "1" : "";
    pictures();
  };
  const divide = (percent) => {
    $("divider").value = String(percent);
    $("divider").oninput();
  };
  $("canvas").onpointerdown = (event) => {
    $("canvas").setPointerCapture(event.pointerId);
    drag(event);
  };
  $("canvas").onpointermove = (event) => {
    if (event.buttons) drag(event);
  };
  $("canvas").onkeydown = (event) => {
    const step = { ArrowLeft: -2, ArrowRight: 2 }[event.key];
    if (step) {
      event.preventDefault();
      divide(Number($("divider").value) + step);
    }
  };
  $("row-filter").value = state.rf;
  $("row-system").onchange =
    $("row-snr").onchange =
    $("row-filter").oninput =
      () => {
        [state.rs, state.rn, state.rf] = [$("row-system").value, $("row-snr").value, $("row-filter").value];
        rowsTable();
        save();
      };
  /* Another view pasted into the address bar of this page. */
  addEventListener("hashchange", () => {
    if (location.hash.startsWith("#?")) location.reload();
  });
  for (const link of document.querySelectorAll("[data-jump]"))
    link.onclick = (event) => {
      event.preventDefault();
      const target = $(link.dataset.jump);
      target.scrollIntoView();
      target.focus({ preventScroll: true });
    };
  const theme = (name) => {
    document.documentElement.dataset.theme = name;
    $("theme").setAttribute("aria-pressed", String(name === "dark"));
  };
  $("theme").onclick = () => {
    state.t = dark() ? "light" : "dark";
    theme(state.t);
    curves();
  };
  theme(state.t || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
  addEventListener("beforeprint", () => {
    if (dark()) {
      theme("light");
      curves();
    }
    for (const box of document.querySelectorAll("#points-box, .claim details")) box.open = true;
  });
  let waiting = 0;
  addEventListener("resize", () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => {
      curves();
      pictures();
    });
  });
  rest();
  claims();
  curves();
  systemsTable();
  rowsControls();
  pictures();
})();
