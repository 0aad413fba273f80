"use strict";
// Searches and filters the texts of a run. What a model wrote is only ever set as text, so that none of it becomes an element.
(() => {
  const PAGE = 50;
  const VERDICTS = ["right", "wrong", "unparsed", "truncated", "ungraded"];
  // Places in a row of answers, in one of its models' cells, and in a row of completions. A preference pair has both answers
  // for its gold, and a cell's answer is its scores.
  const ID = 0, GOLD = 1, GROUP = 2, SAMPLE = 3, ASKED = 4, MODELS = 5;
  const TEXT = 0, ANSWER = 3, TOKENS = 4;
  const STEP = 0, PROMPT = 1, WRITTEN = 2, REWARD = 3, ADVANTAGE = 4, SCORES = 5;

  const byId = (id) => document.getElementById(id);
  const { contents, sets } = JSON.parse(byId("texts").textContent);
  const form = byId("browser"), control = form.elements, list = byId("list");
  let set = null, found = [], page = 0, words = "", wait = 0;

  function element(name, text, className) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  function options(select, values, first) {
    const shown = values.map((value) => {
      const option = element("option", value === "" ? "(none)" : String(value));
      option.value = "=" + value; // an empty value is one, too
      return option;
    });
    const any = element("option", first);
    any.value = "";
    select.replaceChildren(any, ...shown);
  }

  const distinct = (place) => [...new Set(set.rows.map((row) => row[place]))];
  const asked = (row) => row[set.rewards ? PROMPT : ASKED];
  const count = (value) => value.toLocaleString("en");

  function choose() {
    set = sets[control.set.selectedIndex];
    const pairs = set.models && set.models.length > 1;
    const kinds = set.rewards ? ["completions"] : ["answers", pairs ? "pairs" : "single"];
    for (const part of form.querySelectorAll("[data-of]")) part.hidden = !kinds.includes(part.dataset.of);
    for (const name of ["words", "change", "least", "most", "order"]) control[name].value = "";
    control.reading.selectedIndex = 0;
    for (const name of ["before", "after"]) options(control[name], VERDICTS, "any");
    options(control.step, set.rewards ? distinct(STEP) : [], "all");
    options(control.group, set.rewards ? [] : distinct(GROUP).sort(), "all");
    if (!set.rewards && distinct(GROUP).length < 2) control.group.parentElement.hidden = true;
    filter();
  }

  function haystack(row) {
    if (!row.low) {
      const written = set.rewards ? [row[WRITTEN]] : [row[ID], ...[row[GOLD]].flat(), ...row.slice(MODELS).map((cell) => cell[TEXT])];
      row.low = [...written, ...asked(row).map(([, place]) => contents[place])].join("\n").toLowerCase();
    }
    return row.low;
  }

  const is = (select, value) => select.value === "" || select.value === "=" + value;

  function kept(row) {
    if (words && !haystack(row).includes(words)) return false;
    if (set.rewards) {
      const { least, most } = control;
      if (least.value !== "" && !(row[REWARD] >= least.valueAsNumber)) return false;
      if (most.value !== "" && !(row[REWARD] <= most.valueAsNumber)) return false;
      return is(control.step, row[STEP]);
    }
    const reading = Number(control.reading.value), models = row.slice(MODELS);
    const before = models[0][reading], after = models[models.length - 1][reading];
    if (!is(control.after, after) || !is(control.group, row[GROUP])) return false;
    return models.length < 2 || (is(control.before, before) && ["", became(before, after)].includes(control.change.value));
  }

  function became(before, after) {
    if (after === "right") return before === "right" ? "right" : "gained";
    return before === "right" ? "lost" : "wrong";
  }

  function filter() {
    words = control.words.value.trim().toLowerCase();
    found = set.rows.filter(kept);
    const sign = Number(control.order.value);
    if (set.rewards && sign) found.sort((one, other) => sign * (one[REWARD] - other[REWARD]));
    show(0);
  }

  function show(to) {
    page = to;
    const pages = Math.max(1, Math.ceil(found.length / PAGE)), what = set.rewards ? "completions" : set.preference ? "pairs" : "answers";
    byId("count").textContent = `${count(found.length)} of ${count(set.rows.length)} ${what}, page ${page + 1} of ${pages}`;
    byId("previous").disabled = page === 0;
    byId("next").disabled = page + 1 >= pages;
    const rows = found.slice(page * PAGE, (page + 1) * PAGE);
    list.replaceChildren(...rows.map(set.rewards ? completion : answer));
  }

  function answer(row) {
    const made = element("article", undefined, "sample"), head = element("p");
    head.append("example ", element("code", row[ID]), row[SAMPLE] ? `, answer ${row[SAMPLE] + 1}` : "");
    head.append(row[GROUP] ? ` · ${row[GROUP]}` : "");
    const titles = row.slice(MODELS).map(judged), texts = element("div", undefined, "texts");
    made.append(head, prompt(row[ASKED]));
    if (set.preference) {
      made.append(...titles);
      texts.append(...["Better answer", "Worse answer"].map((name, at) => written(element("h4", name), row[GOLD][at])));
    } else {
      const gold = element("strong");
      gold.append(element("bdi", row[GOLD]));
      head.append(" · gold ", gold);
      texts.append(...titles.map((title, place) => written(title, row[MODELS + place][TEXT])));
    }
    made.append(texts);
    return made;
  }

  function judged(cell, place) {
    const title = element("h4", `${set.models[place]}: `);
    const [strict, reader] = [cell[1], cell[2]];
    title.append(element("b", strict));
    if (reader !== strict) title.append(" (a reader: ", element("b", reader), ")");
    if (cell[ANSWER]) title.append(set.preference ? ", scored " : ", answered ", element("bdi", cell[ANSWER]));
    title.append(`, ${count(cell[TOKENS])} tokens`);
    return title;
  }

  function completion(row) {
    const made = element("article", undefined, "sample");
    const scores = set.rewards.map((name, place) => `${name} ${row[SCORES + place] ?? "–"}`).join(", ");
    const title = element("h4", scores), texts = element("div", undefined, "texts");
    const head = element("p", `step ${count(row[STEP])}`);
    if (row[REWARD] !== null) head.append(" · reward ", element("strong", row[REWARD]));
    head.append(row[ADVANTAGE] === null ? "" : ` · advantage ${row[ADVANTAGE]}`);
    texts.append(written(title, row[WRITTEN]));
    made.append(head, prompt(row[PROMPT]), texts);
    return made;
  }

  function written(title, text) {
    const made = element("div");
    made.append(title, marked(text));
    return made;
  }

  function prompt(messages) {
    const fold = element("details");
    fold.append(element("summary", "Prompt"));
    for (const [role, place] of messages) fold.append(element("h4", role), marked(contents[place]));
    return fold;
  }

  // A text with the words that were searched for marked in it.
  function marked(text) {
    const made = element("pre"), low = text.toLowerCase();
    made.dir = "auto";
    let from = 0;
    // Where lower case has another length, places would be wrong: then nothing is marked.
    while (words && low.length === text.length) {
      const at = low.indexOf(words, from);
      if (at < 0) break;
      made.append(text.slice(from, at), element("mark", text.slice(at, at + words.length)));
      from = at + words.length;
    }
    made.append(text.slice(from));
    return made;
  }

  for (const { name, rows } of sets) control.set.append(element("option", `${name} (${count(rows.length)})`));
  form.addEventListener("submit", (event) => event.preventDefault());
  byId("clear").addEventListener("click", choose);
  form.addEventListener("input", (event) => {
    clearTimeout(wait);
    if (event.target === control.set) choose();
    else wait = setTimeout(filter, event.target === control.words ? 150 : 0);
  });
  byId("previous").addEventListener("click", () => show(page - 1));
  byId("next").addEventListener("click", () => show(page + 1));
  form.hidden = byId("found").hidden = false;
  choose();
})();
