'use strict';

/**
 * From the GraphQL text that prisma-client-py writes to the JSON query that the WebAssembly engine reads.
 *
 * Both forms carry the same operations; they differ in how they write values. GraphQL text has no way to say "this
 * string is JSON" or "this integer has 64 bits", so the type of every value is taken from the schema: the translation
 * walks the arguments with the model, relation or field it is in.
 */

const { parse } = require('graphql/language/parser');

const RAW_ACTIONS = new Set(['queryRaw', 'executeRaw']);

/** Longest first where one is the beginning of another. */
const ACTIONS = [
  'findUnique',
  'findFirst',
  'findMany',
  'createManyAndReturn',
  'createMany',
  'createOne',
  'updateMany',
  'updateOne',
  'deleteMany',
  'deleteOne',
  'upsertOne',
  'aggregate',
  'groupBy',
];

/**
 * Arguments that hold values of the model's fields; all others (take, orderBy, by, distinct, query ...) need no
 * types.
 */
const MODEL_ARGUMENTS = new Set(['where', 'cursor', 'data', 'create', 'update', 'having']);

const LOGICAL_OPERATORS = new Set(['AND', 'OR', 'NOT']);

/** Relation operators whose value is one input, or a list of inputs, of the related model. */
const DIRECT_RELATION_OPERATORS = new Set([
  'is',
  'isNot',
  'some',
  'every',
  'none',
  'create',
  'connect',
  'disconnect',
  'set',
  'delete',
  'deleteMany',
]);

/** Relation operators whose value wraps such inputs under these keys. */
const WRAPPING_RELATION_OPERATORS = new Set(['update', 'updateMany', 'upsert', 'connectOrCreate', 'createMany']);
const WRAPPED_INPUTS = new Set(['where', 'data', 'create', 'update']);

/**
 * Filters of a Json field that compare with text or address a place in the document, and so are not JSON themselves.
 */
const JSON_TEXT_FILTERS = new Set(['path', 'string_contains', 'string_starts_with', 'string_ends_with', 'mode']);

/** A request that cannot be translated; the client sees it as a malformed query. */
class TranslationError extends Error {}

/**
 * @param {Map<string, import('./datamodel').Model>} models
 * @returns {(query: string) => {request: object, isRaw: boolean}} the JSON query, and whether it is raw SQL
 */
function createTranslator(models) {
  /** `findUniqueUserOrThrow` -> action `findUniqueOrThrow` on model `User`. */
  function operation(name) {
    if (RAW_ACTIONS.has(name)) return { action: name };
    for (const action of ACTIONS) {
      if (!name.startsWith(action)) continue;
      const rest = name.slice(action.length);
      if (models.has(rest)) return { action, modelName: rest };
      const orThrow = rest.endsWith('OrThrow') ? rest.slice(0, -'OrThrow'.length) : null;
      if (orThrow && models.has(orThrow)) return { action: `${action}OrThrow`, modelName: orThrow };
    }
    throw new TranslationError(`Unknown operation ${name}`);
  }

  /** Applies `convert` to an input or to each of a list; flags and nulls stand for themselves. */
  function inputs(node, convert) {
    if (node.kind === 'ListValue') return node.values.map((value) => inputs(value, convert));
    return node.kind === 'ObjectValue' ? convert(node) : scalar(node);
  }

  function object(node, convertField) {
    const result = {};
    for (const { name, value } of node.fields) result[name.value] = convertField(name.value, value);
    return result;
  }

  /** A filter, an order or data of one model: each key is a field, a logical operator or a compound key of fields. */
  function modelInput(node, modelName) {
    const model = models.get(modelName);
    return object(node, (key, value) => {
      const field = model?.get(key);
      if (field?.isRelation) return inputs(value, (each) => relationInput(each, field.type));
      if (field) return fieldInput(value, field.type);
      // AND/OR/NOT, `user_id_team_id: {...}` and aggregates such as `_count` all speak of this model's own fields
      return inputs(value, (each) => modelInput(each, modelName));
    });
  }

  /** What stands after a relation's name: operators, or (in short form) an input of the related model. */
  function relationInput(node, modelName) {
    const model = models.get(modelName);
    return object(node, (key, value) => {
      if (DIRECT_RELATION_OPERATORS.has(key)) return inputs(value, (each) => modelInput(each, modelName));
      if (WRAPPING_RELATION_OPERATORS.has(key)) return inputs(value, (each) => wrappedInput(each, modelName));
      if (model?.has(key) || LOGICAL_OPERATORS.has(key)) {
        return modelInput({ kind: 'ObjectValue', fields: [{ name: { value: key }, value }] }, modelName)[key];
      }
      return plain(value);
    });
  }

  /** `update: {where, data}` or, for a relation to one record, `update: {field: ...}`. */
  function wrappedInput(node, modelName) {
    const isWrapped = node.fields.every(
      ({ name, value }) =>
        name.value === 'skipDuplicates' ||
        (WRAPPED_INPUTS.has(name.value) && (value.kind === 'ObjectValue' || value.kind === 'ListValue')),
    );
    if (!isWrapped) return modelInput(node, modelName);
    return object(node, (_key, value) => inputs(value, (each) => modelInput(each, modelName)));
  }

  /** The value of a scalar field, or filters and operations (`equals`, `in`, `increment` ...) on it. */
  function fieldInput(node, type) {
    if (node.kind === 'ListValue') return node.values.map((value) => fieldInput(value, type));
    if (node.kind !== 'ObjectValue') return scalar(node, type);
    return object(node, (key, value) =>
      type === 'Json' && JSON_TEXT_FILTERS.has(key) ? plain(value) : fieldInput(value, type),
    );
  }

  function plain(node) {
    if (node.kind === 'ListValue') return node.values.map(plain);
    return node.kind === 'ObjectValue' ? object(node, (_key, value) => plain(value)) : scalar(node);
  }

  function argument(name, node, modelName) {
    return modelName && MODEL_ARGUMENTS.has(name) ? inputs(node, (each) => modelInput(each, modelName)) : plain(node);
  }

  function call(node, modelName) {
    const result = { arguments: {}, selection: {} };
    for (const { name, value } of node.arguments ?? [])
      result.arguments[name.value] = argument(name.value, value, modelName);
    for (const selected of node.selectionSet?.selections ?? []) {
      const field = models.get(modelName)?.get(selected.name.value);
      const isLeaf = !selected.selectionSet && !selected.arguments?.length;
      result.selection[selected.name.value] = isLeaf || call(selected, field?.isRelation ? field.type : modelName);
    }
    return result;
  }

  return function translate(query) {
    let operations;
    try {
      operations = parse(query, { noLocation: true }).definitions[0].selectionSet.selections;
    } catch (error) {
      throw new TranslationError(error.message);
    }
    if (operations.length !== 1) throw new TranslationError(`One operation is expected, found ${operations.length}`);
    const [root] = operations;
    const { action, modelName } = operation(root.name.value);
    const request = { action, query: call(root, modelName) };
    if (modelName) request.modelName = modelName;
    return { request, isRaw: RAW_ACTIONS.has(action) };
  };
}

/**
 * One literal, tagged where JSON's own types would lose something: a Json document, or digits beyond a double's 53
 * bits.
 *
 * @param {object} node a literal of the GraphQL syntax tree
 * @param {string} [type] the Prisma type of the field it is for
 */
function scalar(node, type) {
  switch (node.kind) {
    case 'NullValue':
      return null;
    case 'BooleanValue':
      return node.value;
    case 'StringValue':
      return type === 'Json' ? { $type: 'Json', value: node.value } : node.value;
    case 'EnumValue':
      return type === 'Json' ? { $type: 'Enum', value: node.value } : node.value;
    case 'FloatValue':
      return type === 'Decimal' ? { $type: 'Decimal', value: node.value } : Number(node.value);
    case 'IntValue': {
      const number = Number(node.value);
      if (Number.isSafeInteger(number) || type === 'Float') return number;
      return { $type: type === 'Decimal' ? 'Decimal' : 'BigInt', value: node.value };
    }
    default:
      throw new TranslationError(`${node.kind} is not supported`);
  }
}

module.exports = { createTranslator, TranslationError };
