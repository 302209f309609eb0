"""Chat templates written for the tests, each with the features of a family's own."""

# ruff: noqa: E501, W291  # line breaks and blanks are part of a template

CHATML = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

INST_WITH_SYSTEM_FOLDED_IN = """\
{% if messages[0]['role'] == 'system' %}
    {% set turns = messages[1:] %}
    {% set system = '<<SYS>>\\n' + messages[0]['content'].strip() + '\\n<</SYS>>\\n\\n' %}
{% else %}
    {% set turns = messages %}
    {% set system = '' %}
{% endif %}
{% for message in turns %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('user and assistant must take turns') }}
    {% endif %}
    {% set content = system + message['content'] if loop.index0 == 0 else message['content'] %}
    {% if message['role'] == 'user' %}
        {{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
    {% elif message['role'] == 'assistant' %}
        {{ ' ' + content.strip() + ' ' + eos_token }}
    {% endif %}
{% endfor %}
"""

HEADERS_AND_DATE = """\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0].role == 'system' %}
    {%- set system_message = messages[0].content | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " ~ date_string ~ "\\n\\n" }}
{{- system_message }}<|eot_id|>
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' -}}
        {{ message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

NO_SYSTEM_ROLE = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{% for message in messages %}
{% if message['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}
{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}
{% endfor %}
{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}
"""

NAMESPACE_AND_TOOLS = """\
{%- set ns = namespace(system='', last=-1, seen=[]) -%}
{%- for message in messages -%}
    {%- if message.role == 'system' and not ns.system -%}
        {%- set ns.system = message.content -%}
    {%- endif -%}
    {%- if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif -%}
    {%- set ns.seen = ns.seen + [message.role] -%}
{%- endfor -%}
{{ bos_token }}{% if tools is not none and tools %}[TOOLS]{{ tools | tojson }}[/TOOLS]{% endif %}
{%- for message in messages -%}
    {%- if message.role == 'system' %}{% continue %}{% endif -%}
    {%- if message.role == 'user' -%}
        [INST] {% if loop.index0 == ns.last and ns.system %}{{ ns.system ~ "\\n\\n" }}{% endif %}{{ message.content }}[/INST]
    {%- else -%}
        {{ " " + message.content.strip() + eos_token }}
    {%- endif -%}
{%- endfor -%}
<!-- {{ ns.seen | unique | sort | join(', ') }} {{ ns.last }} -->
"""

PIPES = """\
{% for message in messages %}
{% if message['role'] in ['system', 'user'] %}
{{'<|' + message['role'] + '|>' + '
' + message['content'] + '<|end|>' + '
'}}
{% else %}
{{'<|assistant|>
' ~ message['content'] ~ '<|end|>
'}}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}{{ '<|assistant|>
' }}{% else %}{{ eos_token }}{% endif %}
"""

THINKING_TAKEN_OUT = """\
{%- macro shown(content, number=1) -%}
    {%- if '</think>' in content -%}
        {{- content.split('</think>')[-1].lstrip('\\n') -}}
    {%- else -%}
        {{- content -}}
    {%- endif -%}
{%- endmacro %}
{%- set ns = namespace(multi_step=true, last_query=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step and message.role == "user" and message.content is string
            and not (message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step = false %}
        {%- set ns.last_query = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {{- '<|im_start|>%s\\n' % message.role }}
    {%- if message.role == 'assistant' and loop.index0 > ns.last_query and not loop.last %}
        {{- '<think>\\n' + message.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') }}
    {%- else %}
        {{- shown(message.content, number=loop.index) }}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

BARS_AND_WIDE_MARKS = """\
{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}
{% set ns = namespace(is_first=true, system='') %}
{%- for message in messages if message['role'] == 'system' %}
    {%- if ns.is_first %}{% set ns.system = message['content'] %}{% set ns.is_first = false %}
    {%- else %}{% set ns.system = ns.system + '\\n\\n' + message['content'] %}{% endif %}
{%- endfor %}{{ bos_token }}{{ ns.system }}
{%- for message in messages %}
{%- if message['role'] == 'user' %}{{ '<｜User｜>' + message['content'] }}{% endif %}
{%- if message['role'] == 'assistant' and message['content'] is not none %}
{{- '<｜Assistant｜>' + message['content'] + '<｜end▁of▁sentence｜>' }}{% endif %}
{%- endfor %}{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}
"""

GENERATION_BLOCKS = """\
{% for message in messages %}
{% if message.role == 'assistant' %}
### Answer
{% generation %}{% set inner = message.content | upper %}
{{ inner }}{{ eos_token }}
{% endgeneration %}
{% else %}
### {{ message.role | capitalize }}{{ inner is defined }}
  {{ message.content }}

{% endif %}
{% if loop.index > 6 %}{% break %}{% endif %}
{% endfor %}
### Answer
"""

JSON_LINES = """\
{% for message in messages %}
{{ message | tojson }}
{{ message | tojson(indent=2) }}{{ messages[:1] | tojson(separators=(',', ':'), sort_keys=true, ensure_ascii=true) }}
{% endfor %}
{{ {'a': [1, 2.5, none, true], 'b': {'c': '<&>'}} | tojson }} {{ {'a': 1}.items() | list }} {{ [1, [2]] }}
"""

FILTERS_AND_METHODS = """\
{%- set ns = namespace(n=0) -%}
{%- for role, group in messages | groupby('role') -%}
{{ role }}: {{ group | map(attribute='content') | map('trim') | map('length') | sum }};
{%- endfor %}
{% for message in messages %}
{%- set ns.n = ns.n + message.content | length %}
{{ loop.index }}/{{ loop.length }} {{ loop.cycle('odd', 'even') }} {{ loop.changed(message.role) }}
{{ message.content | replace('a', 'b\\n') | indent(2) | title }} {{ message.content[:3] ~ 1 ~ none ~ 2.0 }}
{{ message['content'] | default('x', true) | truncate(9) | center(11) | e }} {{ '%5d|%-4s|%.2f' | format(3, 'x', 1) }}
{{ "{:>8}|{0!r}".format(message.role) if false else "{:>8}".format(message.role) }} {{ message.get('name', '?') }}
{% filter upper %}{{ message.role }}{% endfilter %}{% set block %}<{{ message.content }}>{% endset %}{{ block | length }}
{% endfor %}
{{ ns.n }} {{ range(3) | list }} {{ [1, 2, 3] | batch(2, 0) | list }} {{ 'a-b-c'.split('-') | join('+') | wordwrap(3) }}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ (messages | last).role }} {{ 7.125 | round(2) }}
{{ dict(a=1) }} {{ dict.fromkeys(['x'], 2) }} {{ 'x' * 3 }} {{ 2 ** 5 }} {{ [0] * 2 }} {{ messages[0].nothing }}
{{ '-'.join(['a', 'b']) }} {{ 'abc'.ljust(5) }}. {{ "a\\tb".expandtabs(4) }} {{ [[1], [2]] | sum(start=[]) }} {{ unk_token }}
{% autoescape true %}{{ '<' ~ message ~ '>' }}{{ '<b>' | safe }}{{ ['<', '>'] | join('&') }}{% endautoescape %}
"""

CALLS_AND_RECURSION = """\
{% macro turn(role) %}[{{ role }}{% if varargs %}{{ varargs | join }}{% endif %}]{{ caller() }}[/{{ kwargs.get('close', role) }}]
{% endmacro %}
{% for message in messages %}
{% call turn(message.role, 1, 2, close='x') %}{{ message.content }}{% endcall %}
{% endfor %}
{% for item in [{'n': 1, 'children': [{'n': 2}]}] recursive %}{{ item.n }}{% if item.children %}({{ loop(item.children) }}){% endif %}{% endfor %}
{% with a = 1, b = 'two' %}{{ a ~ b }}{% endwith %}{# a comment #}
{% raw %}{{ not this }}{% endraw %}
    {%+ if true %}kept{% endif %}   
# {{ cycler('a', 'b').next() }}{% set j = joiner('|') %}{{ j() }}{{ j() }}
"""

EVERY = {name.lower(): text for name, text in dict(globals()).items() if name.isupper()}
