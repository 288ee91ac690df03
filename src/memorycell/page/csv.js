// CSV as RFC 4180 writes it, with commas, semicolons or tabs; the server checks the values.

const SEPARATORS = [",", ";", "\t"];

/** -> {columns, rows: objects by column}. Throws an Error with the line. */
export function readCsv(text) {
  const clean = text.replace(/^\ufeff/, "");
  const header = clean.slice(0, clean.search(/[\r\n]|$/));
  const separator = SEPARATORS.reduce((best, s) =>
    header.split(s).length > header.split(best).length ? s : best,
  );
  const [columns, ...lines] = split(clean, separator);
  if (!columns || columns.length < 1 || new Set(columns).size < columns.length) {
    throw new Error("line 1: expected the names of the columns, each once");
  }
  return {
    columns,
    rows: lines.map((cells, k) => {
      if (cells.length !== columns.length) {
        throw new Error(`line ${k + 2}: ${cells.length} cells, but ${columns.length} columns`);
      }
      return Object.fromEntries(columns.map((name, c) => [name, cells[c]]));
    }),
  };
}

function split(text, separator) {
  const lines = [];
  let cells = [],
    cell = "",
    quoted = false,
    k = 0;
  const endLine = () => {
    cells.push(cell);
    if (cells.length > 1 || cells[0] !== "") lines.push(cells);
    cells = [];
    cell = "";
  };
  for (; k < text.length; k += 1) {
    const c = text[k];
    if (quoted) {
      if (c !== '"') cell += c;
      else if (text[k + 1] === '"') {
        cell += c;
        k += 1;
      } else quoted = false;
    } else if (c === '"' && cell === "") quoted = true;
    else if (c === separator) {
      cells.push(cell);
      cell = "";
    } else if (c === "\n") endLine();
    else if (c !== "\r") cell += c;
  }
  if (quoted) throw new Error("the last quotation mark is not closed");
  if (cell !== "" || cells.length) endLine();
  return lines;
}
