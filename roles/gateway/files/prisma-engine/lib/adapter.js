'use strict';

/**
 * The database driver of the WebAssembly engine: it plans the SQL, this runs it.
 *
 * Prisma publishes such an adapter (@prisma/adapter-pg). This one exists because that release drops what it cannot
 * name (system catalogue types, arrays of timestamps or enums), reads timestamps in the session's zone, and loses a
 * connection whenever a COMMIT or ROLLBACK fails. The interface (names, result objects) is the engine's.
 */

const { toResultSet, FIRST_USER_DEFINED_OID } = require('./column-types');
const { QueryTimeout, isConnectionLoss } = require('./errors');

/** All values as text; they are read in column-types.js, when the types made in this database are known too. */
const AS_TEXT = { getTypeParser: () => (text) => text };

const TRANSACTION_CONTROL = /^\s*(BEGIN|COMMIT|ROLLBACK)\b/i;

const success = (value) => ({
  ok: true,
  value,
  map: (convert) => success(convert(value)),
  flatMap: (convert) => convert(value),
});

const failure = (error) => ({ ok: false, error, map: () => failure(error), flatMap: () => failure(error) });

/**
 * Errors on their way through the engine, which carries only a number for those that are not PostgreSQL's own
 * answers.
 */
class ErrorRegistry {
  #errors = new Map();
  #next = 0;

  add(error) {
    this.#errors.set(this.#next, error);
    return this.#next++;
  }

  /** The error for a number, once. */
  take(id) {
    const error = this.#errors.get(id);
    this.#errors.delete(id);
    return error;
  }
}

/** Runs statements; the two kinds below differ in where the connection comes from. */
class Queryable {
  adapterName = 'llm-appliance-pg';
  provider = 'postgres';

  constructor(context) {
    this.context = context;
  }

  async queryRaw(query) {
    return this.#answer(async (client) => {
      const result = await this.#run(client, query);
      await this.#learnArrayTypes(client, result.fields);
      return toResultSet(result, this.context.userArrays);
    });
  }

  async executeRaw(query) {
    return this.#answer(async (client) => (await this.#run(client, query)).rowCount ?? 0);
  }

  async #answer(work) {
    try {
      return success(await this.withClient(work));
    } catch (error) {
      const isPostgresAnswer = typeof error.code === 'string' && typeof error.severity === 'string';
      if (!isPostgresAnswer || isConnectionLoss(error))
        return failure({ kind: 'GenericJs', id: this.context.registry.add(error) });
      const { code, severity, message, detail, column, hint } = error;
      return failure({ kind: 'Postgres', code, severity, message, detail, column, hint });
    }
  }

  /** The extended protocol always: one statement at a time, however few its parameters. */
  async #run(client, { sql, args }) {
    const running = client.query({
      text: sql,
      values: args,
      rowMode: 'array',
      types: AS_TEXT,
      queryMode: 'extended',
    });
    const { queryLimitMs } = this.context;
    if (queryLimitMs === 0) return running;
    let timer;
    const timeout = new Promise((_resolve, reject) => {
      timer = setTimeout(() => reject(new QueryTimeout(`no answer within ${queryLimitMs} ms`)), queryLimitMs);
    });
    try {
      return await Promise.race([running, timeout]);
    } catch (error) {
      running.catch(() => {}); // its connection is about to be closed under it
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Arrays of enums have numbers of their own in each database; asked for once per type. */
  async #learnArrayTypes(client, fields) {
    const { userArrays, knownTypes } = this.context;
    const unknown = fields
      .map((field) => field.dataTypeID)
      .filter((oid) => oid >= FIRST_USER_DEFINED_OID && !knownTypes.has(oid));
    if (unknown.length === 0) return;
    const arrays = await client.query(
      "SELECT oid::int8 FROM pg_type WHERE typcategory = 'A' AND oid = ANY($1::oid[])",
      [unknown],
    );
    for (const oid of unknown) knownTypes.add(oid);
    for (const { oid } of arrays.rows) userArrays.add(Number(oid));
  }
}

/** Statements outside a transaction: each takes a connection of the pool for itself. */
class PoolAdapter extends Queryable {
  #reserved = [];
  #starting = 0;

  /**
   * @param {import('./pool').ConnectionPool} pool
   * @param {{schema: string, queryLimitMs: number}} settings
   */
  constructor(pool, { schema, queryLimitMs }) {
    super({ registry: new ErrorRegistry(), userArrays: new Set(), knownTypes: new Set(), queryLimitMs });
    this.pool = pool;
    this.schema = schema;
  }

  get errorRegistry() {
    return this.context.registry;
  }

  getConnectionInfo() {
    return success({ schemaName: this.schema });
  }

  async withClient(work) {
    const client = await this.pool.acquire();
    let broken = true;
    try {
      const result = await work(client);
      broken = false;
      return result;
    } catch (error) {
      broken = mustClose(error);
      throw error;
    } finally {
      client.release(broken);
    }
  }

  /**
   * Starts a transaction with a connection waited for here: the engine's own wait knows no limit but the pool's,
   * while a client may ask for a shorter one. The engine cannot be told which connection belongs to which
   * transaction; any will do.
   *
   * @param {number} waitMs how long to wait for the connection
   * @param {() => Promise<T>} start makes the engine start its transaction
   * @template T
   */
  async startWithin(waitMs, start) {
    this.#reserved.push(await this.pool.acquire(waitMs));
    this.#starting += 1;
    try {
      return await start();
    } finally {
      this.#starting -= 1;
      while (this.#reserved.length > this.#starting) this.#reserved.pop().release();
    }
  }

  async startTransaction() {
    try {
      return success(new Transaction(this.context, this.#reserved.pop() ?? (await this.pool.acquire())));
    } catch (error) {
      return failure({ kind: 'GenericJs', id: this.context.registry.add(error) });
    }
  }
}

/** Statements on one connection, which goes back to the pool when the transaction is over, however it ends. */
class Transaction extends Queryable {
  options = { usePhantomQuery: false };
  #client;
  #released = false;

  constructor(context, client) {
    super(context);
    this.#client = client;
  }

  async queryRaw(query) {
    return this.#watch(query, super.queryRaw(query));
  }

  async executeRaw(query) {
    return this.#watch(query, super.executeRaw(query));
  }

  async withClient(work) {
    if (this.#released) throw new Error('Connection terminated before the end of the transaction');
    try {
      return await work(this.#client);
    } catch (error) {
      if (mustClose(error)) this.#release(true);
      throw error;
    }
  }

  /** After a failed BEGIN, COMMIT or ROLLBACK the engine lets go of the transaction without a word. */
  async #watch({ sql }, answering) {
    const answer = await answering;
    if (!answer.ok && TRANSACTION_CONTROL.test(sql)) this.#release(true);
    return answer;
  }

  async commit() {
    return this.#end();
  }

  async rollback() {
    return this.#end();
  }

  #end() {
    this.#release(this.#client.getTransactionStatus() !== 'I');
    return success(undefined);
  }

  #release(broken) {
    if (this.#released) return;
    this.#released = true;
    this.#client.release(broken);
  }
}

/** Whether a connection is of no use after this error. */
function mustClose(error) {
  return error instanceof QueryTimeout || isConnectionLoss(error);
}

/** The adapter as the engine takes it: plain functions on a plain object. */
function bind(adapter) {
  const bindQueryable = (queryable) => ({
    adapterName: queryable.adapterName,
    provider: queryable.provider,
    queryRaw: (query) => queryable.queryRaw(query),
    executeRaw: (query) => queryable.executeRaw(query),
  });
  return {
    ...bindQueryable(adapter),
    getConnectionInfo: () => adapter.getConnectionInfo(),
    startTransaction: async () =>
      (await adapter.startTransaction()).map((transaction) => ({
        ...bindQueryable(transaction),
        options: transaction.options,
        commit: () => transaction.commit(),
        rollback: () => transaction.rollback(),
      })),
  };
}

module.exports = { PoolAdapter, bind };
