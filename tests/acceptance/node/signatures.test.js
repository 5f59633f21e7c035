'use strict'
// Status callbacks carry signatures that the SDK's validators take.

const assert = require('node:assert/strict')
const http = require('node:http')
const querystring = require('node:querystring')
const test = require('node:test')
const { client, demo, plivo, until } = require('./sdk.js')

/** An endpoint that keeps what it is told. */
async function endpoint () {
  const called = []
  const server = http.createServer((request, response) => {
    let body = ''
    request.on('data', (chunk) => { body += chunk })
    request.on('end', () => {
      const url = `http://${request.headers.host}${request.url}`
      called.push({ method: request.method, url, headers: request.headers, body })
      response.end()
    })
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  return { called, server, url: `http://127.0.0.1:${server.address().port}` }
}

for (const method of ['POST', 'GET']) {
  test(`by ${method}`, async (t) => {
    const there = await endpoint()
    t.after(() => { there.server.closeAllConnections(); there.server.close() })
    const url = `${there.url}/status/?shop=7&lang=fr`
    const sent = await client.messages.create({
      powerpackUUID: demo.powerpack_uuid, dst: '+14155550169', text: 'Grüße & mehr', url, method,
    })
    const isDelivered = (each) => querystring.parse(each.body || each.url.split('?')[1]).Status === 'delivered'
    await until(() => there.called.some(isDelivered), 'the callback of the delivery')

    for (const { method: by, url: at, headers, body } of there.called) {
      assert.equal(by, method)
      const params = body ? querystring.parse(body) : {}
      const nonce = headers['x-plivo-signature-v2-nonce']
      const v2 = headers['x-plivo-signature-v2']
      assert.equal(plivo.validateSignature(at, nonce, v2, demo.auth_token), true)
      assert.equal(plivo.validateSignature(at, nonce, v2, 'another token'), false)
      const v3 = headers['x-plivo-signature-v3']
      const v3Nonce = headers['x-plivo-signature-v3-nonce']
      assert.equal(plivo.validateV3Signature(by, at, v3Nonce, demo.auth_token, v3, params), true)
      assert.equal(plivo.validateV3Signature(by, at, v3Nonce, 'another token', v3, params), false)
      const told = { ...querystring.parse(at.split('?')[1]), ...params }
      assert.equal(told.MessageUUID, sent.messageUuid[0])
      assert.equal(told.PowerpackUUID, demo.powerpack_uuid)
    }
  })
}
