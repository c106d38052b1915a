'use strict';

/**
 * Prisma's query engine, compiled to WebAssembly, behind the operations of Prisma's engine server.
 *
 * Replies have the server's form: `{data: {result}}`, `{batchResult: [...]}` or `{errors: [...]}`.
 */

const fs = require('node:fs');
const path = require('node:path');

const { bind } = require('./adapter');
const { forWasmEngine, parseDatamodel } = require('./datamodel');
const {
  PoolTimeout,
  describeFailure,
  errorEntry,
  malformedRequest,
  transactionNotFound,
  transactionWaitFailure,
} = require('./errors');
const { rawResult, untag } = require('./results');
const { TranslationError, createTranslator } = require('./translate');
const { requireMatchingVersions } = require('./versions');

/** The engine's code for "the driver failed, ask it": the meta data hold the number of the registered error. */
const DRIVER_FAILURE = 'P2036';

/** Tracing is off; the engine wants the field all the same. */
const NO_TRACE = '{}';

const DEFAULT_MAX_WAIT_MS = 2000;

/** What the engine makes of transactions' names; it aborts, with all its work, on anything much shorter. */
const TRANSACTION_ID = /^[a-z0-9]{20,}$/;

/**
 * Loads the engine of the installed @prisma/client, after making sure that it is the one this code was written for.
 */
function loadWasm() {
  const packageFile = require.resolve('@prisma/client/package.json');
  const runtime = path.join(path.dirname(packageFile), 'runtime');
  const glue = require(path.join(runtime, 'query_engine_bg.postgresql.js'));
  const module = new WebAssembly.Module(fs.readFileSync(path.join(runtime, 'query_engine_bg.postgresql.wasm')));
  const instance = new WebAssembly.Instance(module, { './query_engine_bg.js': glue });
  glue.__wbg_set_wasm(instance.exports);
  instance.exports.__wbindgen_start?.();
  requireMatchingVersions({
    clientVersion: require(packageFile).version,
    engineCommit: glue.getBuildTimeInfo().commit,
  });
  return glue.QueryEngine;
}

function isUnknown(transactionId) {
  return transactionId !== undefined && !TRANSACTION_ID.test(transactionId);
}

class Engine {
  #adapter;
  #wasm;
  #translate;
  #database;

  /**
   * @param {{datamodel: string, adapter: import('./adapter').PoolAdapter, database: object}} options the Prisma
   *   schema, the
   *   driver, and what errors may say about the database
   */
  constructor({ datamodel, adapter, database }) {
    const QueryEngine = loadWasm();
    this.#adapter = adapter;
    this.#database = database;
    this.#translate = createTranslator(parseDatamodel(datamodel));
    this.#wasm = new QueryEngine(
      {
        datamodel: forWasmEngine(datamodel),
        logLevel: 'error',
        logQueries: false,
        ignoreEnvVarErrors: true, // the schema names DATABASE_URL; the driver has it, the engine needs it not
        datasourceOverrides: {},
        env: {},
        configDir: '.',
        enableMetrics: false,
        enableTracing: false,
      },
      () => {}, // its log repeats the errors that it returns
      bind(adapter),
    );
  }

  async connect() {
    await this.#wasm.connect(NO_TRACE);
  }

  /**
   * @param {string} text one query, in GraphQL
   * @param {string} [transactionId]
   */
  async query(text, transactionId) {
    if (isUnknown(transactionId)) return { errors: [errorEntry(transactionNotFound())] };
    const translated = this.#translated([text]);
    if (translated.errors) return translated;
    const [{ request, isRaw }] = translated;
    return this.#reply(JSON.parse(await this.#wasm.query(JSON.stringify(request), NO_TRACE, transactionId)), isRaw);
  }

  /**
   * @param {string[]} texts queries, in GraphQL, to run in this order
   * @param {boolean} isTransaction whether they succeed or fail together
   * @param {string} [transactionId]
   */
  async batch(texts, isTransaction, transactionId) {
    if (isUnknown(transactionId)) return { errors: [errorEntry(transactionNotFound())] };
    const translated = this.#translated(texts);
    if (translated.errors) return translated;
    const body = { batch: translated.map(({ request }) => request), transaction: isTransaction ? {} : undefined };
    const answer = JSON.parse(await this.#wasm.query(JSON.stringify(body), NO_TRACE, transactionId));
    if (answer.errors) return this.#reply(answer);
    return { batchResult: answer.batchResult.map((each, i) => this.#reply(each, translated[i].isRaw)) };
  }

  /**
   * @param {string} options JSON of the client: timeout, max_wait (both ms), isolation_level
   * @returns {Promise<{id: string} | {error_code?: string, message: string}>} the transaction, or a user-facing error
   */
  async startTransaction(options) {
    let maxWaitMs;
    try {
      maxWaitMs = JSON.parse(options).max_wait ?? DEFAULT_MAX_WAIT_MS;
    } catch (error) {
      return malformedRequest(error.message);
    }
    try {
      return await this.#adapter.startWithin(maxWaitMs, async () =>
        this.#transactionReply(await this.#wasm.startTransaction(options, NO_TRACE)),
      );
    } catch (error) {
      return error instanceof PoolTimeout
        ? transactionWaitFailure(maxWaitMs)
        : describeFailure(error, this.#database);
    }
  }

  async commit(transactionId) {
    if (isUnknown(transactionId)) return transactionNotFound();
    return this.#transactionReply(await this.#wasm.commitTransaction(transactionId, NO_TRACE));
  }

  async rollback(transactionId) {
    if (isUnknown(transactionId)) return transactionNotFound();
    return this.#transactionReply(await this.#wasm.rollbackTransaction(transactionId, NO_TRACE));
  }

  #translated(texts) {
    try {
      return texts.map(this.#translate);
    } catch (error) {
      if (!(error instanceof TranslationError)) throw error;
      return { errors: [errorEntry(malformedRequest(error.message))] };
    }
  }

  #reply(answer, isRaw) {
    if (answer.errors) return { errors: answer.errors.map((each) => this.#withDriverError(each)) };
    const [result] = Object.values(answer.data);
    return { data: { result: isRaw ? rawResult(result) : untag(result) } };
  }

  #transactionReply(text) {
    const answer = JSON.parse(text || '{}');
    return answer.message === undefined ? answer : this.#resolve(answer);
  }

  /** An entry of `errors`, with the driver's own error in place of its number. */
  #withDriverError(entry) {
    const found = this.#resolve(entry.user_facing_error ?? {});
    if (found === entry.user_facing_error)
      return { ...entry, user_facing_error: { ...found, meta: found.meta ?? {} } };
    return { ...entry, ...errorEntry(found) };
  }

  #resolve(userFacing) {
    if (userFacing.error_code !== DRIVER_FAILURE) return userFacing;
    const error = this.#adapter.errorRegistry.take(userFacing.meta.id);
    return error ? describeFailure(error, this.#database) : userFacing;
  }
}

module.exports = { Engine };
