'use strict';

const assert = require('node:assert/strict');
const path = require('node:path');
const { test } = require('node:test');

const library = (name) => require(path.join(process.env.PRISMA_ENGINE_DIRECTORY, 'lib', name));
const { toResultSet, toUtc } = library('column-types');
const { parseDatabaseUrl } = library('database-url');
const { forWasmEngine, parseDatamodel } = library('datamodel');
const { describeFailure, isConnectionLoss, transactionStatus } = library('errors');
const { ownerOf } = library('peer');
const { rawResult, untag } = library('results');
const { requireMatchingVersions } = library('versions');

test('moments with a zone become UTC, to the microsecond', () => {
  assert.equal(toUtc('2026-03-01 00:30:00.000001+05:30'), '2026-02-28 19:00:00.000001');
  assert.equal(toUtc('2026-12-31 23:59:59-00:30'), '2027-01-01 00:29:59');
  assert.equal(toUtc('2026-03-01 00:30:00.5+00'), '2026-03-01 00:30:00.5');
  assert.equal(toUtc('0099-01-01 00:00:00+01'), '0098-12-31 23:00:00');
  assert.equal(toUtc('infinity'), 'infinity');
});

test('columns carry the type of the engine, arrays 64 above', () => {
  const fields = [
    [23, 'a'],
    [20, 'b'],
    [1009, 'c'],
    [50000, 'd'],
    [50001, 'e'],
    [19, 'f'],
    [1000, 'g'],
  ].map(([dataTypeID, name]) => ({ dataTypeID, name }));

  const result = toResultSet(
    { fields, rows: [['1', '9007199254740993', '{x,NULL,"a,b"}', 'RED', '{RED}', 'pg', '{t,f}']] },
    new Set([50001]),
  );

  assert.deepEqual(result.columnTypes, [0, 1, 71, 7, 71, 7, 69]);
  assert.deepEqual(result.rows, [[1, '9007199254740993', ['x', null, 'a,b'], 'RED', ['RED'], 'pg', [true, false]]]);
});

test("Prisma's URL parameters become the driver's settings", () => {
  const settings = parseDatabaseUrl(
    'postgresql://u%40x:p%2F%25@[::1]:6000/d%20b?connection_limit=3&pool_timeout=60&connect_timeout=7&schema=s%20"t',
  );

  assert.equal(settings.driver.user, 'u@x');
  assert.equal(settings.driver.password, 'p/%');
  assert.equal(settings.driver.host, '::1');
  assert.equal(settings.driver.database, 'd b');
  assert.equal(settings.driver.connectionTimeoutMillis, 7000);
  assert.equal(settings.driver.options, '-c timezone=UTC -c search_path="s\\ ""t"');
  assert.equal(settings.driver.ssl, false);
  assert.deepEqual([settings.connectionLimit, settings.poolWaitMs, settings.schema], [3, 60000, 's "t']);
});

test('a socket directory can stand for a host', () => {
  assert.equal(
    parseDatabaseUrl('postgresql://u@localhost/d?host=/var/run/postgresql').driver.host,
    '/var/run/postgresql',
  );
});

test('sslmode follows Prisma: encrypted means unchecked unless it says otherwise', () => {
  const ssl = (parameters) => parseDatabaseUrl(`postgresql://u@h/d?${parameters}`).driver.ssl;

  assert.equal(ssl(''), false);
  assert.deepEqual(ssl('sslmode=require'), { rejectUnauthorized: false });
  assert.deepEqual(ssl('sslmode=require&sslaccept=strict'), { rejectUnauthorized: true });
  assert.deepEqual(ssl('sslmode=verify-full'), { rejectUnauthorized: true });
  assert.throws(() => ssl('sslmode=maybe'), /sslmode "maybe"/);
});

test('comments, attributes and other blocks are no fields', () => {
  const models = parseDatamodel(
    'enum E {\n  A\n}\nmodel M {\n  id Int @id // {\n  /// doc\n  e E?\n  @@map("m")\n}\nview V {\n  m M\n}',
  );

  assert.deepEqual([...models.keys()], ['M', 'V']);
  assert.deepEqual(
    [...models.get('M')],
    [
      ['id', { type: 'Int', isRelation: false }],
      ['e', { type: 'E', isRelation: false }],
    ],
  );
  assert.equal(models.get('V').get('m').isRelation, true);
});

test('the generator is replaced and nothing else', () => {
  const schema =
    'datasource db {\n  url = env("X")\n}\ngenerator client {\n  provider = "prisma-client-py"\n}\nmodel M {\n  id Int @id\n}';

  const text = forWasmEngine(schema);

  assert.match(text, /previewFeatures = \["driverAdapters"\]/);
  assert.doesNotMatch(text, /prisma-client-py/);
  assert.ok(text.endsWith('datasource db {\n  url = env("X")\n}\nmodel M {\n  id Int @id\n}'));
});

test('tags are taken off at any depth', () => {
  assert.deepEqual(
    untag([{ a: { $type: 'BigInt', value: '1' }, b: [{ $type: 'Json', value: '{"$type":1}' }], c: null }]),
    [{ a: '1', b: ['{"$type":1}'], c: null }],
  );
});

test('raw rows carry the type of every value', () => {
  const raw = {
    columns: ['a', 'b'],
    types: ['bigint', 'string-array'],
    rows: [
      ['1', ['x', null]],
      [null, null],
    ],
  };

  assert.deepEqual(rawResult(raw), [
    {
      a: { prisma__type: 'bigint', prisma__value: '1' },
      b: {
        prisma__type: 'array',
        prisma__value: [
          { prisma__type: 'string', prisma__value: 'x' },
          { prisma__type: 'null', prisma__value: null },
        ],
      },
    },
    { a: { prisma__type: 'null', prisma__value: null }, b: { prisma__type: 'null', prisma__value: null } },
  ]);
  assert.equal(rawResult(7), 7);
});

test('losing a connection is told apart from an answer', () => {
  const error = (message, code) => Object.assign(new Error(message), { code });

  assert.equal(isConnectionLoss(error('terminating connection', '57P01')), true);
  assert.equal(isConnectionLoss(error('read', 'ECONNRESET')), true);
  assert.equal(isConnectionLoss(error('Connection terminated unexpectedly')), true);
  assert.equal(isConnectionLoss(error('duplicate key', '23505')), false);
  assert.equal(describeFailure(error('read', 'ECONNRESET'), {}).error_code, 'P1017');
});

test('failed transactions have the status of the engine server', () => {
  const status = (message) =>
    transactionStatus({ error_code: 'P2028', message: `Transaction API error: ${message}` });

  assert.equal(status('Unable to start a transaction in the given time.'), 504);
  assert.equal(status('Transaction not found. ...'), 404);
  assert.equal(status('Transaction already closed: ...'), 422);
  assert.equal(transactionStatus({ error_code: 'P1001', message: '' }), 500);
});

test("the owner of a connection is the one of the client's end", () => {
  const table = [
    '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode',
    '   0: 0100007F:9FB0 00000000:0000 0A 00000000:00000000 00:00000000 00000000   105        0 1 1 0 100 0 0 10 0',
    '   1: 0100007F:9FB0 0100007F:B4EA 01 00000000:00000000 00:00000000 00000000   105        0 2 1 0 20 4 30 10 -1',
    '   2: 0100007F:B4EA 0100007F:9FB0 01 00000000:00000000 00:00000000 00000000  1000        0 3 1 0 20 4 30 10 -1',
    '   3: 0100007F:B4EB 0100007F:9FB0 06 00000000:00000000 03:00000001 00000000     0        0 0 3 0',
  ].join('\n');

  assert.equal(ownerOf(table, { clientPort: 0xb4ea, serverPort: 0x9fb0 }), 1000);
  assert.equal(ownerOf(table, { clientPort: 0xb4eb, serverPort: 0x9fb0 }), undefined);
});

test('another release is refused', () => {
  assert.throws(
    () => requireMatchingVersions({ clientVersion: '5.18.0', engineCommit: 'abc' }),
    /written for @prisma\/client 5\.17\.0/,
  );
});
