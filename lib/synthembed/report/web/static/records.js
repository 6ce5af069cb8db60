// A list of records with search and filters. The records lie in scripts beside the page, each of which calls
// synthembedRecords: scripts load from a folder as from a server, without a request to anywhere else.
(() => {
  const waiting = new Map();
  window.synthembedRecords = (name, chunk, records) => waiting.get(`${name}-${chunk}`)?.(records);

  function load(base, name, chunk) {
    return new Promise((resolve, reject) => {
      waiting.set(`${name}-${chunk}`, resolve);
      const script = document.createElement("script");
      script.src = `${base}${name}-${String(chunk).padStart(3, "0")}.js`;
      script.onerror = () => reject(new Error(script.src));
      document.head.append(script);
    });
  }

  function element(tag, about = {}, ...children) {
    const made = Object.assign(document.createElement(tag), about);
    made.append(...children);
    return made;
  }

  const PAGE = 20;

  class Records {
    constructor(box) {
      const about = JSON.parse(box.dataset.about);
      Object.assign(this, { box, about, all: [], page: 0, more: new Map(), chosen: {} });
      this.base = box.dataset.base;
      this.search = element("input", { type: "search", id: `${about.name}-search` });
      this.search.addEventListener("input", () => { this.page = 0; this.show(); });
      this.bar = element("form", { className: "filters" },
        element("label", { htmlFor: this.search.id }, "Search ", this.search));
      this.bar.addEventListener("submit", (event) => event.preventDefault());
      this.count = element("p", { className: "count" });
      this.count.setAttribute("role", "status");
      this.list = element("div", { className: "list" });
      this.before = element("button", { type: "button", textContent: "Previous" });
      this.after = element("button", { type: "button", textContent: "Next" });
      this.before.addEventListener("click", () => this.turn(-1));
      this.after.addEventListener("click", () => this.turn(1));
      box.replaceChildren(this.bar, this.count, this.list,
        element("p", { className: "pages" }, this.before, " ", this.after));
      this.fill();
    }

    async fill() {
      for (let chunk = 0; chunk < this.about.chunks; chunk++) {
        const records = await load(this.base, this.about.name, chunk);
        for (const record of records) {
          this.all.push({ record, chunk, text: Object.values(record).join("\n").toLowerCase() });
        }
        if (chunk === 0) this.show();
      }
      for (const field of this.about.filters) this.filter(field);
      this.show();
    }

    filter(field) {
      const counts = new Map();
      for (const { record } of this.all) counts.set(record[field], (counts.get(record[field]) ?? 0) + 1);
      const select = element("select", { id: `${this.about.name}-${field}` }, element("option", { value: "" }, "all"));
      for (const [value, count] of [...counts].sort((a, b) => b[1] - a[1])) {
        select.append(element("option", { value: value ?? "" }, `${value} (${count.toLocaleString("en")})`));
      }
      select.addEventListener("change", () => { this.chosen[field] = select.value; this.page = 0; this.show(); });
      this.bar.append(element("label", { htmlFor: select.id }, `${field} `, select));
    }

    found() {
      const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const set = Object.entries(this.chosen).filter(([, value]) => value !== "");
      return this.all.filter(({ record, text }) =>
        words.every((word) => text.includes(word)) && set.every(([field, value]) => String(record[field]) === value));
    }

    turn(by) {
      this.page += by;
      this.show();
      this.box.scrollIntoView({ block: "start" });
    }

    show() {
      const found = this.found();
      const last = Math.max(0, Math.ceil(found.length / PAGE) - 1);
      this.page = Math.min(this.page, last);
      const from = this.page * PAGE;
      const shown = found.slice(from, from + PAGE);
      this.count.textContent = found.length
        ? `${(from + 1).toLocaleString("en")} to ${(from + shown.length).toLocaleString("en")} of ${found.length.toLocaleString("en")}`
        : "Nothing found.";
      this.before.disabled = this.page === 0;
      this.after.disabled = this.page === last;
      this.list.replaceChildren(...shown.map((entry) => this.card(entry)));
    }

    card({ record, chunk }) {
      const head = this.about.head.map((f) => record[f]).filter((v) => v != null && v !== "").join(" · ");
      const card = element("article", { className: "record" }, element("p", { className: "where" }, head));
      const fields = element("dl");
      for (const field of this.about.fields) {
        if (record[field] == null || record[field] === "") continue;
        fields.append(element("dt", {}, field), element("dd", { dir: "auto" }, this.value(field, String(record[field]))));
      }
      card.append(fields);
      if (record.made) card.append(element("a", { href: record.made, textContent: "How it was made: command, data, time, cost" }));
      if (this.about.more && record.id) card.append(this.request(record, chunk));
      return card;
    }

    // A list of reasons opens on demand: one of them says enough at first.
    value(field, text) {
      const [first, ...rest] = text.split("; ");
      if (!this.about.lists?.includes(field) || rest.length < 2) return text;
      return element("details", {}, element("summary", {}, `${first}; and ${rest.length} more`), rest.join("; "));
    }

    request(record, chunk) {
      const details = element("details", {}, element("summary", {}, `${this.about.more_title} (${record.id.slice(0, 8)})`));
      details.addEventListener("toggle", async () => {
        if (!details.open || details.dataset.filled) return;
        details.dataset.filled = "yes";
        if (!this.more.has(chunk)) this.more.set(chunk, load(this.base, this.about.more, chunk));
        const all = await this.more.get(chunk);
        const text = element("pre", { dir: "auto" }, element("code", {}, all[record.id] ?? "not kept"));
        text.tabIndex = 0;
        details.append(text);
      });
      return details;
    }
  }

  for (const box of document.querySelectorAll(".records")) new Records(box);
})();
