// CSV as RFC 4180 writes it, with commas, semicolons or tabs; the server checks the values.

const SEPARATORS = [",", ";", "\t"],
  UTF16 = { "255 254": "utf-16le", "254 255": "utf-16be" },
  PEEKED_BYTES = 4096;

/** The text of a file: UTF-8, UTF-16 with its mark, or else Windows-1252. Throws an Error where it
 *  is no text. */
export function decodeText(bytes) {
  const wide = UTF16[bytes.slice(0, 2).join(" ")];
  if (wide) return new TextDecoder(wide).decode(bytes);
  if (bytes.subarray(0, PEEKED_BYTES).includes(0))
    throw new Error("not a text file; expected CSV, its first line with the names of the columns");
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("windows-1252").decode(bytes);
  }
}

/** -> {columns, length, slice(from, to): rows as objects by column}. Objects are made of the rows
 *  that are asked for: a file of 20 MB has a million. Throws an Error with the line. */
export function readCsv(text) {
  const clean = text.replace(/^\ufeff/, "");
  const header = clean.slice(0, clean.search(/[\r\n]|$/));
  const separator = SEPARATORS.reduce((best, s) =>
    header.split(s).length > header.split(best).length ? s : best,
  );
  const quoted = clean.includes('"');
  const lines = quoted ? split(clean, separator) : clean.split(/\r?\n/),
    cellsOf = quoted ? (cells) => cells : (line) => line.split(separator);
  const columns = lines.length && lines[0] !== "" ? cellsOf(lines[0]) : [];
  if (!columns.length || new Set(columns).size < columns.length) {
    throw new Error("line 1: expected the names of the columns, each once");
  }
  const rows = lines.filter((line, k) => {
    if (!k || line === "") return false;
    const count = quoted ? line.length : countOf(separator, line) + 1;
    if (count === columns.length) return true;
    throw new Error(`line ${k + 1}: ${count} cells, but ${columns.length} columns`);
  });
  const row = (line) => {
    const cells = cellsOf(line);
    return Object.fromEntries(columns.map((name, c) => [name, cells[c]]));
  };
  return { columns, length: rows.length, slice: (from, to) => rows.slice(from, to).map(row) };
}

function countOf(separator, line) {
  let count = 0;
  for (let k = line.indexOf(separator); k >= 0; k = line.indexOf(separator, k + 1)) count += 1;
  return count;
}

/** Lists of cells; lines without any are left out. */
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
