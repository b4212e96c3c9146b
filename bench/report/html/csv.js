"use strict";
/* A table as CSV, for the buttons that save one. A text that a program for sheets would take for a formula, which can
   start programs, gets a quotation mark before it and commas in place of semicolons, as in `bench.util.files`. */
const csvText = (head, rows) => {
  const begins = (part) => /^[=@+-]/.test(part.trimStart()) && Number.isNaN(Number(part));
  const plain = (value) => {
    if (value === null || value === undefined) return "";
    const text = String(value),
      seen = text.normalize("NFKC");
    return typeof value !== "number" && seen.split(";").some(begins) ? "'" + seen.replaceAll(";", ",") : text;
  };
  const quoted = (text) => (/[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text);
  return [head, ...rows].map((row) => row.map((value) => quoted(plain(value))).join(",")).join("\n") + "\n";
};
