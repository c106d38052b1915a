'use strict';

/**
 * The HTTP interface of Prisma's engine binary, as far as prisma-client-py uses it, on the loopback interface only.
 */

const http = require('node:http');

const { errorEntry, malformedRequest, transactionStatus } = require('./errors');
const { metrics } = require('./metrics');
const { isOwnUser } = require('./peer');

/** The client connects to "localhost", which may be either. */
const LOOPBACK_ADDRESSES = ['127.0.0.1', '::1'];

/** Listening on ::1 on a host without IPv6. */
const NO_SUCH_ADDRESS = new Set(['EADDRNOTAVAIL', 'EAFNOSUPPORT']);

/** Longer than the client keeps an idle connection, so that the engine never closes one that is being written to. */
const KEEP_ALIVE_MS = 120_000;

const TRANSACTION = /^\/transaction\/([\w-]+)\/(commit|rollback)$/;

/**
 * @param {import('./engine').Engine} engine
 * @param {import('./pool').ConnectionPool} pool for the metrics
 * @returns {(request: {method: string, url: string, headers: object, body: string}) => Promise<[number,
 *   object|string]>}
 *   answers a request with a status and a body
 */
function createHandler(engine, pool) {
  async function query(body, transactionId) {
    let request;
    try {
      request = JSON.parse(body);
    } catch (error) {
      return [200, { errors: [errorEntry(malformedRequest(error.message))] }];
    }
    if (!request.batch) return [200, await engine.query(request.query, transactionId)];
    const queries = request.batch.map((each) => each.query);
    return [200, await engine.batch(queries, Boolean(request.transaction), transactionId)];
  }

  const transaction = (answer) =>
    answer.message === undefined ? [200, answer] : [transactionStatus(answer), answer];

  return async function handle({ method, url, headers, body }) {
    const { pathname, searchParams } = new URL(url, 'http://localhost');
    if (method === 'GET' && pathname === '/status') return [200, { status: 'ok' }];
    if (method === 'GET' && pathname === '/metrics') return [200, metrics(pool.state, searchParams.get('format'))];
    if (method === 'POST' && pathname === '/') return query(body, headers['x-transaction-id']);
    if (method === 'POST' && pathname === '/transaction/start')
      return transaction(await engine.startTransaction(body));
    const [, id, verb] = TRANSACTION.exec(pathname) ?? [];
    if (method === 'POST' && id) return transaction(await engine[verb](id));
    return [404, { error: `${method} ${pathname} is not part of this interface` }];
  };
}

async function readBody(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
}

/**
 * @param {{handle: ReturnType<typeof createHandler>, port: number, onBug: (error: Error) => void}} options `onBug`
 *   hears of
 *   exceptions that are no answer to anything
 * @returns {Promise<{close: (graceMs: number) => Promise<void>}>} once it listens
 */
async function serve({ handle, port, onBug }) {
  const inFlight = new Set();
  const ownUsers = new WeakMap();

  async function respond(request, response) {
    const { socket } = request;
    if (!ownUsers.has(socket)) ownUsers.set(socket, isOwnUser(socket));
    let status = 403;
    let answer = { error: 'this engine serves the user that started it' };
    if (await ownUsers.get(socket)) {
      const { method, url, headers } = request;
      [status, answer] = await handle({ method, url, headers, body: await readBody(request) });
    }
    const isText = typeof answer === 'string';
    const bytes = Buffer.from(isText ? answer : JSON.stringify(answer));
    const type = isText ? 'text/plain; charset=utf-8' : 'application/json';
    response.writeHead(status, { 'content-type': type, 'content-length': bytes.length });
    response.end(bytes);
  }

  function onRequest(request, response) {
    const work = respond(request, response).catch((error) => {
      if (request.destroyed && error.code === 'ECONNRESET') return; // the client left before it had finished asking
      onBug(error);
      response.destroy();
    });
    inFlight.add(work);
    work.finally(() => inFlight.delete(work));
  }

  const servers = [];
  for (const address of LOOPBACK_ADDRESSES) {
    const server = http.createServer(onRequest);
    server.keepAliveTimeout = KEEP_ALIVE_MS;
    try {
      await new Promise((resolve, reject) => {
        server.once('error', reject);
        server.listen(port, address, resolve);
      });
      servers.push(server);
    } catch (error) {
      if (servers.length === 0 || !NO_SUCH_ADDRESS.has(error.code)) throw error;
    }
  }

  return {
    /**
     * Takes no new work, and waits for the work in hand, but not for ever: the client may be waiting for this
     * process.
     */
    async close(graceMs) {
      for (const server of servers) server.close();
      const grace = new Promise((resolve) => setTimeout(resolve, graceMs).unref());
      await Promise.race([Promise.all(inFlight), grace]);
    },
  };
}

module.exports = { createHandler, serve };
