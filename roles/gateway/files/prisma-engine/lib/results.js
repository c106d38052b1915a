'use strict';

/**
 * The engine's JSON results in the form that prisma-client-py 0.11 reads: values without type tags for models, and
 * for raw queries the older list of rows in which every value carries its type.
 */

const ARRAY_SUFFIX = '-array';

/**
 * Replaces `{"$type": ..., "value": ...}` by the bare value, in place: results can be large.
 *
 * @param {unknown} value a result of a model query
 */
function untag(value) {
  if (value === null || typeof value !== 'object') return value;
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i += 1) value[i] = untag(value[i]);
    return value;
  }
  if (value.$type !== undefined && 'value' in value) return value.value;
  for (const key of Object.keys(value)) value[key] = untag(value[key]);
  return value;
}

function rawValue(type, value) {
  if (value === null) return { prisma__type: 'null', prisma__value: null };
  if (type.endsWith(ARRAY_SUFFIX)) {
    const elementType = type.slice(0, -ARRAY_SUFFIX.length);
    return { prisma__type: 'array', prisma__value: value.map((element) => rawValue(elementType, element)) };
  }
  return { prisma__type: type, prisma__value: value };
}

/**
 * @param {number | {columns: string[], types: string[], rows: unknown[][]}} result of executeRaw (a count) or
 *   queryRaw
 */
function rawResult(result) {
  if (typeof result !== 'object') return result;
  return result.rows.map((row) =>
    Object.fromEntries(result.columns.map((column, i) => [column, rawValue(result.types[i], row[i])])),
  );
}

module.exports = { untag, rawResult };
