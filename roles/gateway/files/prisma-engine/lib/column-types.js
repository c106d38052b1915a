'use strict';

/**
 * From PostgreSQL's text results to the values that the engine reads.
 *
 * Every value arrives as text (or null). A column's type decides two things: the type that the engine is told, and
 * how the text must be written for it. Types the engine has no name for go through as text, which is also what a raw
 * query wants.
 */

const { parse: parseArray } = require('postgres-array');

/**
 * The engine's numbers for column types (ColumnType in prisma-engines); an array of a type is the same number plus
 * 64.
 */
const ENGINE_TYPE = {
  int32: 0,
  int64: 1,
  float: 2,
  double: 3,
  numeric: 4,
  boolean: 5,
  text: 7,
  date: 8,
  time: 9,
  dateTime: 10,
  json: 11,
  bytes: 13,
  uuid: 15,
};
const ARRAY_OFFSET = 64;

/**
 * PostgreSQL's numbers (pg_type.oid, fixed since forever) for types that are more than text: [scalar, array, kind].
 */
const BUILT_IN_TYPES = [
  [16, 1000, 'boolean'],
  [17, 1001, 'bytes'],
  [20, 1016, 'int64'],
  [21, 1005, 'int32'],
  [23, 1007, 'int32'],
  [26, 1028, 'int64'], // oid
  [114, 199, 'json'],
  [700, 1021, 'float'],
  [701, 1022, 'double'],
  [790, 791, 'money'],
  [1082, 1182, 'date'],
  [1083, 1183, 'time'],
  [1114, 1115, 'dateTime'],
  [1184, 1185, 'dateTimeWithZone'],
  [1266, 1270, 'timeWithZone'],
  [1700, 1231, 'numeric'],
  [2950, 2951, 'uuid'],
  [3802, 3807, 'json'],
];

/**
 * Arrays of built-in types that are text to us: name, text, bpchar, varchar, inet, cidr, xml, bit, varbit, interval,
 * "char".
 */
const TEXT_ARRAYS = [1002, 1003, 1009, 1014, 1015, 1041, 651, 143, 1561, 1563, 1187];

const BUILT_INS = new Map();
for (const [scalarOid, arrayOid, kind] of BUILT_IN_TYPES) {
  BUILT_INS.set(scalarOid, { kind, isArray: false });
  BUILT_INS.set(arrayOid, { kind, isArray: true });
}
for (const oid of TEXT_ARRAYS) BUILT_INS.set(oid, { kind: 'text', isArray: true });

const TEXT = { kind: 'text', isArray: false };

/** From here on numbers belong to types made in this database: enums, domains, extensions. */
const FIRST_USER_DEFINED_OID = 16384;

const same = (text) => text;

/** How each kind is written for the engine, and the engine's type for it. */
const KINDS = {
  boolean: { type: ENGINE_TYPE.boolean, read: (text) => text === 't' },
  bytes: { type: ENGINE_TYPE.bytes, read: (text) => Array.from(Buffer.from(text.slice(2), 'hex')) }, // after "\x"
  int32: { type: ENGINE_TYPE.int32, read: Number },
  int64: { type: ENGINE_TYPE.int64, read: same }, // as text: a double has only 53 bits
  float: { type: ENGINE_TYPE.float, read: Number },
  double: { type: ENGINE_TYPE.double, read: Number },
  numeric: { type: ENGINE_TYPE.numeric, read: same },
  money: { type: ENGINE_TYPE.numeric, read: (text) => text.replace(/[^\d.-]/g, '') },
  date: { type: ENGINE_TYPE.date, read: same },
  time: { type: ENGINE_TYPE.time, read: same },
  timeWithZone: { type: ENGINE_TYPE.time, read: (text) => text.replace(/[+-][\d:]+$/, '') },
  dateTime: { type: ENGINE_TYPE.dateTime, read: same },
  dateTimeWithZone: { type: ENGINE_TYPE.dateTime, read: toUtc },
  json: { type: ENGINE_TYPE.json, read: same },
  uuid: { type: ENGINE_TYPE.uuid, read: same },
  text: { type: ENGINE_TYPE.text, read: same },
};

const ZONED = /^((\d+)-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d))(\.\d+)?([+-])(\d\d)(?::(\d\d))?(?::(\d\d))?$/;

/** `2024-05-01 12:00:00.25+02` -> `2024-05-01 10:00:00.25`; the session is in UTC unless a raw query has moved it. */
function toUtc(text) {
  const match = ZONED.exec(text);
  if (!match) return text; // "infinity", years BC: the engine has no such dates and says so
  const [, local, year, month, day, hour, minute, second, fraction = '', sign, ...offset] = match;
  const [hours, minutes, seconds] = offset.map((part) => Number(part ?? 0));
  const offsetSeconds = (hours * 3600 + minutes * 60 + seconds) * (sign === '+' ? 1 : -1);
  if (offsetSeconds === 0) return local + fraction;
  const instant = new Date(0);
  instant.setUTCFullYear(Number(year), Number(month) - 1, Number(day));
  instant.setUTCHours(Number(hour), Number(minute), Number(second) - offsetSeconds);
  return instant.toISOString().slice(0, 19).replace('T', ' ') + fraction;
}

/**
 * @param {number} oid a column's type as PostgreSQL reports it
 * @param {Set<number>} userArrays the array types made in this database
 */
function describe(oid, userArrays) {
  return BUILT_INS.get(oid) ?? (userArrays.has(oid) ? { kind: 'text', isArray: true } : TEXT);
}

/**
 * @param {{fields: {name: string, dataTypeID: number}[], rows: (string|null)[][]}} result of `pg`, rows as arrays of
 *   text
 * @param {Set<number>} userArrays see above
 * @returns {{columnNames: string[], columnTypes: number[], rows: unknown[][]}} the result set as the engine reads it
 */
function toResultSet({ fields, rows }, userArrays) {
  const columns = fields.map(({ dataTypeID }) => {
    const { kind, isArray } = describe(dataTypeID, userArrays);
    const { type, read } = KINDS[kind];
    return isArray ? { type: type + ARRAY_OFFSET, read: (text) => parseArray(text, read) } : { type, read };
  });
  return {
    columnNames: fields.map(({ name }) => name),
    columnTypes: columns.map(({ type }) => type),
    rows: rows.map((row) => row.map((text, i) => (text === null ? null : columns[i].read(text)))),
  };
}

module.exports = { toResultSet, toUtc, FIRST_USER_DEFINED_OID };
