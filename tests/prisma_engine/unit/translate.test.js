'use strict';

// Run by test_units.py, which says in PRISMA_ENGINE_DIRECTORY where the built engine lies.

const assert = require('node:assert/strict');
const path = require('node:path');
const { test } = require('node:test');

const library = (name) => require(path.join(process.env.PRISMA_ENGINE_DIRECTORY, 'lib', name));
const { parseDatamodel } = library('datamodel');
const { TranslationError, createTranslator } = library('translate');

const MODELS = parseDatamodel(`
model User {
  id      String @id
  meta    Json?
  balance Decimal
  spend   Float
  tokens  BigInt
  data    String
  // posts Ghost
  posts   Post[]
  @@unique([id, data], name: "id_data")
}
model Post {
  id      Int  @id
  data    Json @default("{}")
  author  User @relation(fields: [author_id], references: [id])
}
enum Color {
  RED
}
`);
const translate = createTranslator(MODELS);
const argumentsOf = (query) => translate(query).request.query.arguments;

test('the operation is split into action and model', () => {
  const { request, isRaw } = translate('query { result: findUniqueUserOrThrow(where: {id: "a"}) { id } }');

  assert.deepEqual(request, {
    action: 'findUniqueOrThrow',
    modelName: 'User',
    query: { arguments: { where: { id: 'a' } }, selection: { id: true } },
  });
  assert.equal(isRaw, false);
});

test('createManyAndReturn is not taken for createMany', () => {
  assert.equal(
    translate('mutation { result: createManyAndReturnPost(data: []) { id } }').request.action,
    'createManyAndReturn',
  );
});

test('raw queries keep their parameters as the text they are', () => {
  const { request, isRaw } = translate(
    'mutation { result: queryRaw(query: "SELECT $1", parameters: "[9007199254740993]") }',
  );

  assert.deepEqual(request, {
    action: 'queryRaw',
    query: { arguments: { query: 'SELECT $1', parameters: '[9007199254740993]' }, selection: {} },
  });
  assert.equal(isRaw, true);
});

test('only strings of Json fields are tagged as Json', () => {
  const json = (value) => ({ $type: 'Json', value });

  assert.deepEqual(
    argumentsOf('mutation { r: createOneUser(data: {id: "{}", meta: "{}", data: "{}"}) { id } }').data,
    {
      id: '{}',
      meta: json('{}'),
      data: '{}',
    },
  );
  assert.deepEqual(
    argumentsOf('query { r: findManyUser(where: {meta: {path: ["a"], equals: "1", string_contains: "x"}}) { id } }')
      .where,
    {
      meta: { path: ['a'], equals: json('1'), string_contains: 'x' },
    },
  );
  assert.deepEqual(argumentsOf('query { r: findManyUser(orderBy: {meta: "asc"}) { id } }').orderBy, { meta: 'asc' });
});

test('digits beyond a double are kept for the fields that can hold them', () => {
  const { data } = argumentsOf(
    'mutation { r: createOneUser(data: {tokens: 9007199254740993, balance: 9007199254740993, spend: 9007199254740993}) { id } }',
  );

  assert.deepEqual(data, {
    tokens: { $type: 'BigInt', value: '9007199254740993' },
    balance: { $type: 'Decimal', value: '9007199254740993' },
    spend: 9007199254740992,
  });
  assert.deepEqual(
    argumentsOf('mutation { r: createOneUser(data: {balance: 1.10, spend: 1.5e3, tokens: -1}) { id } }').data,
    {
      balance: { $type: 'Decimal', value: '1.10' },
      spend: 1500,
      tokens: -1,
    },
  );
});

test('relations switch to the fields of the other model, whatever their names', () => {
  const { data } = argumentsOf(`mutation { r: updateOneUser(
    where: {id: "a"}
    data: {posts: {
      create: [{data: "[1]"}]
      update: [{where: {id: 1}, data: {data: "[2]"}}]
      upsert: {where: {id: 2}, create: {data: "[3]"}, update: {data: {set: "[4]"}}}
      createMany: {data: [{data: "[5]"}], skipDuplicates: true}
    }}
  ) { id } }`);

  const json = (value) => ({ $type: 'Json', value });
  assert.deepEqual(data.posts, {
    create: [{ data: json('[1]') }],
    update: [{ where: { id: 1 }, data: { data: json('[2]') } }],
    upsert: { where: { id: 2 }, create: { data: json('[3]') }, update: { data: { set: json('[4]') } } },
    createMany: { data: [{ data: json('[5]') }], skipDuplicates: true },
  });
});

test('an update of a single related record may leave the wrapping out', () => {
  const { data } = argumentsOf(
    'mutation { r: updateOnePost(where: {id: 1}, data: {author: {update: {data: "plain"}}}) { id } }',
  );

  assert.deepEqual(data, { author: { update: { data: 'plain' } } });
});

test('filters reach through logical operators, compound keys and relations', () => {
  assert.deepEqual(
    argumentsOf(
      'query { r: findManyUser(where: {AND: [{NOT: {meta: {equals: "1"}}}], posts: {some: {data: {equals: "2"}}}}) { id } }',
    ).where,
    {
      AND: [{ NOT: { meta: { equals: { $type: 'Json', value: '1' } } } }],
      posts: { some: { data: { equals: { $type: 'Json', value: '2' } } } },
    },
  );
  assert.deepEqual(argumentsOf('query { r: findUniqueUser(where: {id_data: {id: "a", data: "b"}}) { id } }').where, {
    id_data: { id: 'a', data: 'b' },
  });
  assert.deepEqual(argumentsOf('query { r: findManyPost(where: {author: {meta: {equals: "1"}}}) { id } }').where, {
    author: { meta: { equals: { $type: 'Json', value: '1' } } },
  });
});

test('selections nest, with arguments of the related model', () => {
  const { selection } = translate(
    'query { r: findManyUser { id posts(where: {data: {equals: "1"}}, take: 2) { id author { data } } _count { posts } } }',
  ).request.query;

  assert.deepEqual(selection, {
    id: true,
    posts: {
      arguments: { where: { data: { equals: { $type: 'Json', value: '1' } } }, take: 2 },
      selection: { id: true, author: { arguments: {}, selection: { data: true } } },
    },
    _count: { arguments: {}, selection: { posts: true } },
  });
});

test('strings are read with their escapes', () => {
  assert.equal(
    argumentsOf('query { r: findManyUser(where: {id: "\\"\\\\\\n\\u00e9\\ud83d\\ude00 😀"}) { id } }').where.id,
    '"\\\n\u00e9😀 😀',
  );
});

for (const [query, message] of [
  ['query { r: findManyGhost { id } }', /Unknown operation findManyGhost/],
  ['query { r: findManyUser { id }', /Syntax Error/],
  ['query { a: findManyUser { id } b: findManyUser { id } }', /One operation is expected, found 2/],
  ['query { r: findManyUser(take: $n) { id } }', /Variable is not supported/],
]) {
  test(`what is not understood is refused: ${query}`, () => {
    assert.throws(
      () => translate(query),
      (error) => error instanceof TranslationError && message.test(error.message),
    );
  });
}
