"""The template of a report; it is Python, since the bundle that Flower sends holds Python files only."""

TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="referrer" content="no-referrer">
<title>{{ verdict.word }}: run {{ name }}</title>
<link rel="icon" href="data:,">
<style>{{ style }}</style>
</head>
<body>
{% macro cell(one, tag="td") -%}
{%- if one.text is not defined -%}<td>{{ one }}</td>
{%- else -%}
<{{ tag }}{% if tag == "th" %} scope="row"{% endif %}
{%- if one.shade is not none %} class="shaded" style="--v:{{ '%.3f' | format(one.shade) }}"
{%- elif tag == "td" and one.text | length > 14 %} class="words"{% endif %}>{{ one.text }}
{%- if one.below %}
{%- set is_short = tag == "td" and one.below | length < 32 %}
{%- if is_short %}<small class="line">{% else %}<small>{% endif %}{{ one.below }}</small>
{%- endif %}</{{ tag }}>
{%- endif -%}
{%- endmacro %}
{% macro show(table, kind="") -%}
{%- if table %}
<div class="scroll" tabindex="0" role="group" aria-label="{{ table.caption }}">
<table class="{{ kind }}"><caption><span>{{ table.caption }}</span></caption>
<thead><tr>
{%- for one in table.columns %}{% if one %}<th scope="col">{{ one }}</th>{% else %}<td></td>{% endif %}{% endfor %}
</tr></thead>
<tbody>
{%- for row in table.rows %}
<tr{% if loop.index0 in table.marked %} class="marked"{% endif %}>
{%- for one in row %}{{ cell(one, "th" if loop.first else "td") }}{% endfor %}</tr>
{%- endfor %}
</tbody></table></div>
{% for note in table.notes %}<p class="note">{{ note }}</p>{% endfor %}
{%- endif %}
{%- endmacro %}
{% macro charts(list) -%}
<div class="charts">
{%- for title, chart in list %}
<figure class="chart-box"><h3>{{ title }}</h3>{{ chart }}</figure>
{%- endfor %}
</div>
{%- endmacro %}
{% macro strips(rows) -%}
{%- for one in rows %}
<div class="strip"><span>{{ one.name }}</span>
<img src="{{ one.uri }}" width="{{ one.width }}" height="{{ one.height }}"
 alt="Generated images of class {{ one.name }}, {{ one.weights }} weights"></div>
{%- endfor %}
{%- endmacro %}
<header>
<h1>Run {{ name }}</h1>
<p class="soft">{{ subtitle }}</p>
</header>
<main>
<section aria-label="Verdict">
<div class="verdict {{ verdict.kind }}">
<p class="word">{{ verdict.word }}</p>
<p>{{ verdict.sentence }}</p>
{% if verdict.reasons %}<ul>{% for one in verdict.reasons %}<li>{{ one }}</li>{% endfor %}</ul>{% endif %}
{% if progress %}<p>{{ progress }}</p>{% endif %}
{% if contributions %}<p>{{ contributions }}</p>{% endif %}
{% if checks %}<p><strong>The gate</strong></p>
<ul class="checks">
{%- for one in checks %}
<li class="{{ 'good' if one.is_passed else 'bad' if one.is_passed is false else 'warn' }}">
<span class="mark">{{ '✓ passed' if one.is_passed else '✗ not passed' if one.is_passed is false else '? open' }}</span>
{{ one.what }}: {{ one.text }}</li>
{%- endfor %}
</ul>{% endif %}
</div>
{% for one in problems %}<p class="warn"><span class="mark">Problem:</span> {{ one }}.</p>{% endfor %}
{% if cards %}
<div class="cards">
{%- for one in cards %}
<dl class="card"><dt>{{ one.label }}</dt><dd class="value">{{ one.value }}</dd>
{%- if one.interval %}<dd>{{ one.interval }}</dd>{% endif %}<dd>n = {{ one.based_on }}</dd>
{%- if one.note %}<dd class="soft">{{ one.note }}</dd>{% endif %}</dl>
{%- endfor %}
</div>
{% else %}<p>No figure has been measured yet.</p>{% endif %}
{% if outcomes %}<h2 id="sites">Who contributed when</h2>
{{ outcomes }}{% endif %}
</section>
<nav aria-label="Sections"><ul>
{%- for anchor, title in sections %}<li><a href="#{{ anchor }}">{{ title }}</a></li>{% endfor %}
</ul></nav>
{% if final or galleries or images_warning %}
<section><h2 id="images">Generated images</h2>
{% if images_warning %}<p class="warn"><span class="mark">Warning:</span> {{ images_warning }}</p>{% endif %}
{% if final %}
<div class="classes">
{%- for one in final %}
<figure><img src="{{ one.row.uri }}" width="{{ one.row.width }}" height="{{ one.row.height }}"
 alt="Final images of class {{ one.row.name }}">
<figcaption><h3>{{ one.row.name }}</h3>{{ one.text }}</figcaption></figure>
{%- endfor %}
</div>
<p class="note">Drawn with the {{ final[0].row.weights }} weights of the last round.</p>
{% endif %}
{% if galleries %}
<h3>Gallery over rounds</h3>
<div class="galleries{% if not galleries[0].blocks %} wide{% endif %}">
{%- for one in galleries %}
<figure><h3>{{ one.title }}</h3>
{%- for weights, rows in one.blocks %}<h4>{{ weights }}</h4>{{ strips(rows) }}{% endfor %}
{%- if one.uri %}<img class="picture" src="{{ one.uri }}" alt="Generated images by class, {{ one.title }}">{% endif %}
</figure>
{%- endfor %}
</div>
<p class="note">Each row is a class. A place has the same noise in all rounds, so it can be followed over them.</p>
{% endif %}
</section>
{% endif %}
{% if curves %}<section><h2 id="curves">Curves</h2>{{ charts(curves) }}
<p class="note">Losses and figures are measured on the sites' held-out images, before a round's training;
the quality of images on test images, after it.</p>
</section>{% endif %}
{% if split or sites %}
<section><h2 id="data">Data and sites</h2>
{{ show(sites) }}
{{ show(split, "matrix") }}
</section>
{% endif %}
{% if heads or comparison or confusion or confusion_picture %}
<section><h2 id="classifier">Classifier</h2>
{{ show(comparison) }}
{{ show(heads) }}
{{ show(confusion, "matrix") }}
{% if confusion_picture %}
<figure><img class="picture" src="{{ confusion_picture }}"
 alt="Confusion matrix: shares of each true class by predicted class">
<figcaption>The confusion matrix. This run is of a version that kept no counts.</figcaption></figure>{% endif %}
</section>
{% endif %}
{% if quality %}
<section><h2 id="quality">Quality of the generated images</h2>
{% for one in quality %}{{ show(one) }}{% endfor %}
</section>
{% endif %}
{% if audit %}
<section><h2 id="audit">Audit</h2>
{% for one in audit.lines %}<p>{{ one }}</p>{% endfor %}
{{ charts(audit.charts) if audit.charts }}
{{ show(audit.table) }}
{% for one in audit.copy_lines %}<p>{{ one }}</p>{% endfor %}
{{ charts(audit.copy_charts) if audit.copy_charts }}
{{ show(audit.copy_table) }}
</section>
{% endif %}
{% if costs %}
<section><h2 id="costs">Time and bytes</h2>
{{ show(costs) }}
{{ charts(cost_charts) if cost_charts }}
</section>
{% endif %}
{% if sent %}<section><h2 id="sent">What left each site</h2>{{ show(sent) }}</section>{% endif %}
<section><h2 id="configuration">Configuration and versions</h2>
{% if options %}
<p>{{ options.changed | length }} of {{ options.all | length }} options differ from their defaults.</p>
{% if options.changed %}
<ul class="options">
{%- for key, value, usual in options.changed %}
<li><code>{{ key }} = {{ value }}</code> <span class="soft">({{ usual }})</span></li>
{%- endfor %}
</ul>
{% endif %}
<details><summary>All {{ options.all | length }} options</summary>
<ul class="options">
{%- for key, value in options.all %}
<li><code>{{ key }} = {{ value }}</code></li>
{%- endfor %}
</ul></details>
{% else %}<p>run.json is missing or damaged, so the options are not known.</p>{% endif %}
{% if versions %}
<p>Versions: {% for key, value in versions %}{{ key }} {{ value }}{{ ", " if not loop.last }}{% endfor %}</p>
{% endif %}
</section>
</main>
<footer class="soft">
<p>Written by fl-app at {{ written }} from the files of the run folder.
It holds {{ "generated images" if final or galleries else "no generated images" }}
{%- if images_warning and (final or galleries) %}, which may be copies of training images.
{%- else %}, and none of a site.{% endif %}</p>
</footer>
</body>
</html>
"""
